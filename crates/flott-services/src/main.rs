//! `cargo run -p flott-services -- kafka`: a server to try things out with, until the end of input or an interrupt.

#![expect(clippy::print_stdout, reason = "says where it listens")]

use flott_services::{Azure, Gcs, Kafka, S3};
use std::io::Read;
use std::process::ExitCode;

/// Who tries things out makes no topics first.
const KAFKA_SETTINGS: &[(&str, &str)] = &[("auto.create.topics.enable", "true")];

const USAGE: &str = "usage: flott-services kafka [--port PORT]|s3|gcs|azure

Starts a server on a free port, says where, and what else programs have to know; it ends with this program, and its data with it.
  kafka   an Apache Kafka broker, at 127.0.0.1:PORT if that is said
  s3      an object store that speaks the protocol of S3, with a bucket
  gcs     the same with that of Google Cloud Storage
  azure   the same with that of Azure Blob Storage";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments.as_slice() {
        ["kafka"] => run(Kafka::start(KAFKA_SETTINGS), Kafka::bootstrap_servers),
        ["kafka", "--port", port] => {
            let port = port.parse().ok().filter(|port| *port != 0);
            let port = port.ok_or_else(|| "a port is a number from 1 to 65535".to_owned());
            run(port.and_then(|port| Kafka::start_at(port, KAFKA_SETTINGS)), Kafka::bootstrap_servers)
        }
        ["s3"] => run(S3::start(&[]), |server| {
            let (address, bucket) = (server.address(), server.bucket());
            let keys = "s3.access-key: any\ns3.secret-key: any\ns3.region: us-east-1";
            format!("s3://{bucket}\ns3.endpoint: http://{address}\n{keys}")
        }),
        ["gcs"] => run(Gcs::start(), |server| {
            let (address, bucket, file) = (server.address(), server.bucket(), server.key_file());
            let file = format!("gs.auth.service.account.json.keyfile: {}", file.display());
            format!("gs://{bucket}\ngs.storage.root.url: http://{address}\n{file}")
        }),
        ["azure"] => run(Azure::start(), |server| {
            let (address, account, container) = (server.address(), server.account(), server.container());
            let host = format!("{account}.dfs.core.windows.net");
            let key = format!("fs.azure.account.key.{host}: {}", server.key());
            format!("abfs://{container}@{host}\nfs.azure.abfs.endpoint: http://{address}\n{key}")
        }),
        _ => {
            println!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what there is to know about a server, and keeps it until who started this program closes the input, or interrupts.
fn run<S>(server: Result<S, String>, about: impl FnOnce(&S) -> String) -> bool {
    match server {
        Ok(server) => {
            println!("{}", about(&server));
            std::io::stdin().read_to_end(&mut Vec::new()).is_ok()
        }
        Err(reason) => {
            println!("no server: {reason}");
            false
        }
    }
}
