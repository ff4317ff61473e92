//! What is done to processes, connections and servers.

use crate::Random;
use anyhow::Result;
use flott_services::{Kafka, Postgres, Proxy, Signal};
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
    /// All connections to the database break.
    CutPostgres,
    /// They break, and no new ones are taken for a while.
    PartitionPostgres,
    /// Nothing goes through them for a while.
    StallPostgres,
    /// The database ends as if the power had failed, and comes back.
    CrashPostgres,
    /// The database stands still for a while.
    FreezePostgres,
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
            Self::CutPostgres => "connections to PostgreSQL cut",
            Self::PartitionPostgres => "PostgreSQL out of reach",
            Self::StallPostgres => "PostgreSQL does not answer",
            Self::CrashPostgres => "crash of PostgreSQL",
            Self::FreezePostgres => "PostgreSQL stands still",
        }
    }

    /// Any that concerns a pipeline between these systems. Those that take long are rare.
    pub(crate) fn any(random: &mut Random, needs: &[&str]) -> Self {
        let mut all = vec![Self::KillJob; 5];
        all.extend([Self::WakeZombie; 2]);
        all.push(Self::FreezeJob);
        if needs.contains(&"kafka") {
            all.extend([Self::CutKafka; 4]);
            all.extend([Self::PartitionKafka, Self::PartitionKafka, Self::StallKafka, Self::StallKafka]);
            all.extend([Self::KillKafka, Self::RestartKafka, Self::FreezeKafka]);
        }
        if needs.contains(&"postgres") {
            all.extend([Self::CutPostgres; 4]);
            all.extend([Self::PartitionPostgres, Self::StallPostgres, Self::StallPostgres]);
            all.extend([Self::CrashPostgres, Self::CrashPostgres, Self::FreezePostgres]);
        }
        let idx = random.below(all.len() as u64) as usize;
        all.get(idx).copied().unwrap_or(Self::KillJob)
    }
}

/// The servers.
pub(crate) struct Services {
    pub(crate) kafka: Option<Kafka>,
    pub(crate) postgres: Option<Postgres>,
}

impl Services {
    /// Starts those that are wanted, or says why one cannot be had.
    pub(crate) fn start(with: &[String]) -> Result<Self, String> {
        let has = |name: &str| with.iter().any(|it| it == name);
        let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000")];
        let kafka = if has("kafka") { Some(Kafka::start(&settings)?) } else { None };
        let postgres = if has("postgres") { Some(Postgres::start(&[])?) } else { None };
        Ok(Self { kafka, postgres })
    }

    /// Does it, if it concerns a server or the way there.
    pub(crate) fn strike(&mut self, strike: Strike, random: &mut Random) -> Result<()> {
        let a_while = Duration::from_millis(200 + random.below(1_500));
        let failed = anyhow::Error::msg;
        match (strike, &mut self.kafka, &self.postgres) {
            (Strike::CutKafka, Some(kafka), _) => drop(kafka.proxy().cut()),
            (Strike::PartitionKafka, Some(kafka), _) => partition(kafka.proxy(), a_while),
            (Strike::StallKafka, Some(kafka), _) => stall(kafka.proxy(), a_while),
            (Strike::KillKafka | Strike::RestartKafka, Some(kafka), _) => {
                let signal = if strike == Strike::KillKafka { Signal::Kill } else { Signal::Term };
                kafka.stop(signal).map_err(failed)?;
                kafka.start_again().map_err(failed)?;
            }
            (Strike::FreezeKafka, Some(kafka), _) => {
                kafka.signal(Signal::Stop).map_err(failed)?;
                std::thread::sleep(a_while);
                kafka.signal(Signal::Cont).map_err(failed)?;
            }
            (Strike::CutPostgres, _, Some(postgres)) => drop(postgres.proxy().cut()),
            (Strike::PartitionPostgres, _, Some(postgres)) => partition(postgres.proxy(), a_while),
            (Strike::StallPostgres, _, Some(postgres)) => stall(postgres.proxy(), a_while),
            (Strike::CrashPostgres, _, Some(postgres)) => postgres.crash_and_restart().map_err(failed)?,
            (Strike::FreezePostgres, _, Some(postgres)) => {
                postgres.signal(Signal::Stop).map_err(failed)?;
                std::thread::sleep(a_while);
                postgres.signal(Signal::Cont).map_err(failed)?;
            }
            // The job's, or of a system that this pipeline does without.
            _ => {}
        }
        Ok(())
    }
}

fn partition(proxy: &Proxy, a_while: Duration) {
    proxy.set_closed(true);
    proxy.cut();
    std::thread::sleep(a_while);
    proxy.set_closed(false);
}

fn stall(proxy: &Proxy, a_while: Duration) {
    proxy.set_stalled(true);
    std::thread::sleep(a_while);
    proxy.set_stalled(false);
}
