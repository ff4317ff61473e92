//! What is done to processes, connections and servers.

use crate::Random;
use anyhow::Result;
use flott_services::{Kafka, Signal};
use std::time::Duration;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strike {
    /// `kill -9` of the job; another process goes on.
    KillJob,
    /// The job stands still while another takes its place, and then goes on.
    WakeZombie,
    /// The job stands still for a while.
    FreezeJob,
    /// All connections to the broker break.
    CutKafka,
    /// They break, and no new ones are taken for a while.
    PartitionKafka,
    /// Nothing goes through them for a while.
    StallKafka,
    /// `kill -9` of the broker, which comes back.
    KillKafka,
    /// The broker ends in order and comes back.
    RestartKafka,
    /// The broker stands still for a while.
    FreezeKafka,
}

impl Strike {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillJob => "kill -9 of the job",
            Self::WakeZombie => "zombie that wakes",
            Self::FreezeJob => "job stands still",
            Self::CutKafka => "connections to Kafka cut",
            Self::PartitionKafka => "Kafka out of reach",
            Self::StallKafka => "Kafka does not answer",
            Self::KillKafka => "kill -9 of Kafka",
            Self::RestartKafka => "restart of Kafka",
            Self::FreezeKafka => "Kafka stands still",
        }
    }

    /// Any that concerns these services. Those that take long are rare.
    pub(crate) fn any(random: &mut Random, services: &Services) -> Self {
        let mut all = vec![Self::KillJob; 5];
        all.extend([Self::WakeZombie; 2]);
        all.push(Self::FreezeJob);
        if services.kafka.is_some() {
            all.extend([Self::CutKafka; 4]);
            all.extend([Self::PartitionKafka, Self::PartitionKafka, Self::StallKafka, Self::StallKafka]);
            all.extend([Self::KillKafka, Self::RestartKafka, Self::FreezeKafka]);
        }
        let idx = random.below(all.len() as u64) as usize;
        all.get(idx).copied().unwrap_or(Self::KillJob)
    }
}

/// The servers.
pub(crate) struct Services {
    pub(crate) kafka: Option<Kafka>,
}

impl Services {
    /// Starts those that are wanted, or says why one cannot be had.
    pub(crate) fn start(with: &[String]) -> Result<Self, String> {
        let has = |name: &str| with.iter().any(|it| it == name);
        let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000")];
        let kafka = if has("kafka") { Some(Kafka::start(&settings)?) } else { None };
        Ok(Self { kafka })
    }

    /// Does it, if it concerns a server or the way there.
    pub(crate) fn strike(&mut self, strike: Strike, random: &mut Random) -> Result<()> {
        let a_while = Duration::from_millis(200 + random.below(1_500));
        let failed = anyhow::Error::msg;
        let Some(kafka) = &mut self.kafka else { return Ok(()) };
        match strike {
            Strike::KillJob | Strike::WakeZombie | Strike::FreezeJob => {}
            Strike::CutKafka => {
                kafka.proxy().cut();
            }
            Strike::PartitionKafka => {
                kafka.proxy().set_closed(true);
                kafka.proxy().cut();
                std::thread::sleep(a_while);
                kafka.proxy().set_closed(false);
            }
            Strike::StallKafka => {
                kafka.proxy().set_stalled(true);
                std::thread::sleep(a_while);
                kafka.proxy().set_stalled(false);
            }
            Strike::KillKafka | Strike::RestartKafka => {
                let signal = if strike == Strike::KillKafka { Signal::Kill } else { Signal::Term };
                kafka.stop(signal).map_err(failed)?;
                kafka.start_again().map_err(failed)?;
            }
            Strike::FreezeKafka => {
                kafka.signal(Signal::Stop).map_err(failed)?;
                std::thread::sleep(a_while);
                kafka.signal(Signal::Cont).map_err(failed)?;
            }
        }
        Ok(())
    }
}
