//! What is done to processes, connections and servers.

use crate::Random;
use crate::pipeline::Pipeline;
use anyhow::{Context, Result};
use flott_services::{Kafka, Postgres, Proxy, S3, Signal, Trap, wait_until};
use std::time::Duration;

/// What a pipeline reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum System {
    Kafka,
    Postgres,
    S3,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strike {
    /// `kill -9` of the job; another process goes on.
    KillJob,
    /// The job stands still while another takes its place, and then goes on.
    WakeZombie,
    /// The job stands still for a while.
    FreezeJob,
    /// All connections break.
    Cut(System),
    /// All connections break when a commit is asked for, before the server hears of it.
    CutBeforeCommit(System),
    /// They break when it answers: nobody hears that it has committed.
    CutAfterCommit(System),
    /// They break, and no new ones are taken for a while.
    Partition(System),
    /// Nothing goes through them for a while.
    Stall(System),
    /// The server stands still for a while.
    Freeze(System),
    /// The server ends as if the power had failed, and comes back.
    Kill(System),
    /// The server ends in order, and comes back.
    Restart(System),
}

impl Strike {
    pub(crate) fn name(self) -> String {
        match self {
            Self::KillJob => "kill -9 of the job".to_owned(),
            Self::WakeZombie => "zombie that wakes".to_owned(),
            Self::FreezeJob => "job stands still".to_owned(),
            Self::Cut(system) => format!("connections to {system:?} cut"),
            Self::CutBeforeCommit(system) => format!("request to commit to {system:?} lost"),
            Self::CutAfterCommit(system) => format!("answer of commit to {system:?} lost"),
            Self::Partition(system) => format!("{system:?} out of reach"),
            Self::Stall(system) => format!("{system:?} does not answer"),
            Self::Freeze(system) => format!("{system:?} stands still"),
            Self::Kill(system) => format!("kill -9 of {system:?}"),
            Self::Restart(system) => format!("restart of {system:?}"),
        }
    }

    /// Any that concerns a pipeline. Those that take long are rare.
    pub(crate) fn any(random: &mut Random, pipeline: Pipeline) -> Self {
        let mut all = vec![Self::KillJob; 5];
        all.extend([Self::WakeZombie, Self::WakeZombie, Self::FreezeJob]);
        let target = pipeline.commits_to();
        all.extend([Self::CutBeforeCommit(target), Self::CutAfterCommit(target)].repeat(2));
        for &system in pipeline.needs() {
            all.extend([Self::Cut(system); 4]);
            all.extend([Self::Partition(system), Self::Partition(system)]);
            all.extend([Self::Stall(system), Self::Stall(system), Self::Freeze(system)]);
            match system {
                System::Kafka => all.extend([Self::Kill(system), Self::Restart(system)]),
                System::Postgres => all.extend([Self::Kill(system), Self::Kill(system)]),
                // Its objects would be gone.
                System::S3 => {}
            }
        }
        let idx = random.below(all.len() as u64) as usize;
        all.get(idx).copied().unwrap_or(Self::KillJob)
    }
}

/// The servers.
pub(crate) struct Services {
    pub(crate) kafka: Option<Kafka>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) s3: Option<S3>,
}

/// Within this a job commits, if it is well.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// Whether these bytes, sent by a client, ask to commit.
fn is_kafka_commit(bytes: &[u8]) -> bool {
    /// Behind the length of the request.
    const END_TXN: [u8; 2] = 26_u16.to_be_bytes();
    bytes.get(4..6) == Some(&END_TXN)
}

fn is_postgres_commit(bytes: &[u8]) -> bool {
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    has(b"COMMIT PREPARED") || has(b"COMMIT\0")
}

fn is_s3_commit(bytes: &[u8]) -> bool {
    // Files are copied to where they belong.
    let header = b"x-amz-copy-source";
    bytes.windows(header.len()).any(|window| window.eq_ignore_ascii_case(header))
}

fn is_commit_to(system: System) -> fn(&[u8]) -> bool {
    match system {
        System::Kafka => is_kafka_commit,
        System::Postgres => is_postgres_commit,
        System::S3 => is_s3_commit,
    }
}

const ABSENT: &str = "what is struck does not run";

impl Services {
    /// Starts those that are wanted, or says why one cannot be had.
    pub(crate) fn start(with: &[System]) -> Result<Self, String> {
        let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000")];
        let has = |system| with.contains(&system);
        Ok(Self {
            kafka: has(System::Kafka).then(|| Kafka::start(&settings)).transpose()?,
            postgres: has(System::Postgres).then(|| Postgres::start(&[])).transpose()?,
            s3: has(System::S3).then(|| S3::start(&[])).transpose()?,
        })
    }

    /// Does it, if it concerns a server or the way there; false if what it was to strike did not happen.
    pub(crate) fn strike(&mut self, strike: Strike, random: &mut Random) -> Result<bool> {
        let a_while = Duration::from_millis(200 + random.below(1_500));
        match strike {
            // Not theirs.
            Strike::KillJob | Strike::WakeZombie | Strike::FreezeJob => {}
            Strike::Cut(system) => drop(self.proxy(system)?.cut()),
            Strike::CutBeforeCommit(system) => return self.cut_at_commit(system, false),
            Strike::CutAfterCommit(system) => return self.cut_at_commit(system, true),
            Strike::Partition(system) => {
                let proxy = self.proxy(system)?;
                proxy.set_closed(true);
                proxy.cut();
                std::thread::sleep(a_while);
                proxy.set_closed(false);
            }
            Strike::Stall(system) => {
                let proxy = self.proxy(system)?;
                proxy.set_stalled(true);
                std::thread::sleep(a_while);
                proxy.set_stalled(false);
            }
            Strike::Freeze(system) => {
                self.signal(system, Signal::Stop)?;
                std::thread::sleep(a_while);
                self.signal(system, Signal::Cont)?;
            }
            Strike::Kill(system) => self.restart(system, Signal::Kill)?,
            Strike::Restart(system) => self.restart(system, Signal::Term)?,
        }
        Ok(true)
    }

    fn cut_at_commit(&self, system: System, loses_answer: bool) -> Result<bool> {
        let proxy = self.proxy(system)?;
        proxy.set_trap(Some(Trap { is_meant: is_commit_to(system), loses_answer }));
        wait_until(COMMIT_LIMIT, || !proxy.has_trap());
        Ok(proxy.set_trap(None).is_none())
    }

    fn proxy(&self, system: System) -> Result<&Proxy> {
        let proxy = match system {
            System::Kafka => self.kafka.as_ref().map(Kafka::proxy),
            System::Postgres => self.postgres.as_ref().map(Postgres::proxy),
            System::S3 => self.s3.as_ref().map(S3::proxy),
        };
        proxy.context(ABSENT)
    }

    fn signal(&self, system: System, signal: Signal) -> Result<()> {
        let sent = match system {
            System::Kafka => self.kafka.as_ref().map(|kafka| kafka.signal(signal)),
            System::Postgres => self.postgres.as_ref().map(|postgres| postgres.signal(signal)),
            System::S3 => self.s3.as_ref().map(|s3| s3.signal(signal)),
        };
        sent.context(ABSENT)?.map_err(anyhow::Error::msg)
    }

    fn restart(&mut self, system: System, signal: Signal) -> Result<()> {
        let restarted = match system {
            System::Kafka => {
                self.kafka.as_mut().map(|kafka| kafka.stop(signal).and_then(|()| kafka.start_again()))
            }
            System::Postgres => self.postgres.as_ref().map(Postgres::crash_and_restart),
            System::S3 => None,
        };
        restarted.context(ABSENT)?.map_err(anyhow::Error::msg)
    }
}
