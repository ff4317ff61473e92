//! `cargo run -p flott-services -- kafka`: a broker to try things out with, until the end of input or an interrupt.

#![expect(clippy::print_stdout, reason = "says where it listens")]

use flott_services::Kafka;
use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().map(String::as_str).collect::<Vec<_>>() != ["kafka"] {
        println!(
            "usage: flott-services kafka\n\nStarts an Apache Kafka broker on a free port and says which; it ends with this program, and its data with it."
        );
        return ExitCode::from(2);
    }
    match Kafka::start(&[("auto.create.topics.enable", "true")]) {
        Ok(broker) => {
            println!("{}", broker.bootstrap_servers());
            // Until who started it closes the input, or interrupts.
            let ended = std::io::stdin().read_to_end(&mut Vec::new());
            drop(broker);
            if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            println!("no broker: {reason}");
            ExitCode::FAILURE
        }
    }
}
