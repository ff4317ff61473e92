//! What is done to processes, connections and servers.

use crate::Random;
use anyhow::{Context, Result};
use flott_services::{Kafka, Postgres, Proxy, S3, Signal};
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
            Self::Partition(system) => format!("{system:?} out of reach"),
            Self::Stall(system) => format!("{system:?} does not answer"),
            Self::Freeze(system) => format!("{system:?} stands still"),
            Self::Kill(system) => format!("kill -9 of {system:?}"),
            Self::Restart(system) => format!("restart of {system:?}"),
        }
    }

    /// Any that concerns a pipeline between these systems. Those that take long are rare.
    pub(crate) fn any(random: &mut Random, systems: &[System]) -> Self {
        let mut all = vec![Self::KillJob; 5];
        all.extend([Self::WakeZombie, Self::WakeZombie, Self::FreezeJob]);
        for &system in systems {
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

    /// Does it, if it concerns a server or the way there.
    pub(crate) fn strike(&mut self, strike: Strike, random: &mut Random) -> Result<()> {
        let a_while = Duration::from_millis(200 + random.below(1_500));
        match strike {
            // Not theirs.
            Strike::KillJob | Strike::WakeZombie | Strike::FreezeJob => {}
            Strike::Cut(system) => drop(self.proxy(system)?.cut()),
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
        Ok(())
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
