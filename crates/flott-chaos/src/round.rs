//! One pipeline under faults.

use crate::Random;
use crate::input::Input;
use crate::pipeline::{Job, Pipeline};
use crate::strike::{Services, Strike};
use crate::topics;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use flott_connector_kafka::client::{Client, Cluster};
use flott_services::{S3, Signal, wait_until};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Within this, output is committed again after a fault.
const LIMIT: Duration = Duration::from_secs(120);
const N_PARTITIONS: i32 = 3;

/// What a round was.
pub(crate) struct Outcome {
    pub(crate) strikes: Vec<Strike>,
    pub(crate) n_records: u64,
    pub(crate) seconds: f64,
    pub(crate) n_committed_reads: u64,
}

/// Processes of the job: killed when dropped.
struct Processes {
    job: Job,
    running: Child,
    /// Standing still, while `running` goes on with its job.
    zombie: Option<Child>,
}

fn end(child: &mut Child) -> Result<()> {
    child.kill().context("a job cannot be killed")?;
    child.wait().context("a job does not end").map(|_| ())
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.zombie.iter_mut().chain([&mut self.running]) {
            end(child).ok();
        }
    }
}

impl Processes {
    fn start(job: Job) -> Result<Self> {
        let running = job.start()?;
        Ok(Self { job, running, zombie: None })
    }

    /// Starts another in the place of what runs, at another parallelism.
    fn replace(&mut self, random: &mut Random) -> Result<Child> {
        self.job.parallelism = 1 + random.below(3) as u32;
        self.job.is_unaligned = random.below(3) == 0;
        Ok(std::mem::replace(&mut self.running, self.job.start()?))
    }

    /// Whoever has ended by itself, because it was fenced or has given up, is replaced.
    fn revive(&mut self, random: &mut Random) -> Result<()> {
        if self.running.try_wait()?.is_some() {
            self.replace(random)?;
        }
        Ok(())
    }

    fn strike(&mut self, strike: Strike, random: &mut Random) -> Result<()> {
        match strike {
            Strike::KillJob => {
                end(&mut self.running)?;
                self.replace(random).map(|_| ())
            }
            Strike::WakeZombie => {
                if let Some(mut before) = self.zombie.take() {
                    end(&mut before)?;
                }
                Signal::Stop.send(&self.running).map_err(anyhow::Error::msg)?;
                self.zombie = Some(self.replace(random)?);
                Ok(())
            }
            Strike::FreezeJob => {
                Signal::Stop.send(&self.running).map_err(anyhow::Error::msg)?;
                std::thread::sleep(Duration::from_millis(200 + random.below(1_500)));
                Signal::Cont.send(&self.running).map_err(anyhow::Error::msg)
            }
            // Not the job's.
            _ => Ok(()),
        }
    }

    /// Lets a zombie go on, whose place another has taken.
    fn wake(&mut self) {
        if let Some(zombie) = &self.zombie {
            // It may have been killed.
            Signal::Cont.send(zombie).ok();
        }
    }
}

fn name(what: &str) -> String {
    static N: AtomicU64 = AtomicU64::new(0);
    format!("{what}_{}", N.fetch_add(1, Ordering::Relaxed))
}

/// Runs a pipeline and strikes it `n_faults` times.
pub(crate) fn run_round(
    pipeline: Pipeline,
    n_faults: u32,
    services: &mut Services,
    random: &mut Random,
) -> Result<Outcome> {
    let started = Instant::now();
    let kafka = services.kafka.as_ref().context("no broker runs")?;
    let (servers, proxied) = (kafka.bootstrap_servers(), kafka.proxied_servers());
    let (input, output, directory) = (name("input"), name("output"), tempfile::tempdir()?);
    let database = services.postgres.as_ref().map(|postgres| {
        let database = postgres.database();
        (postgres.url(&database), postgres.proxied_url(&database))
    });
    let (direct, behind) = database.unwrap_or_default();
    let s3 = services.s3.as_ref().filter(|_| pipeline == Pipeline::KafkaToS3);
    let bucket = s3.map(|s3| format!("s3://{}", s3.bucket()));
    // What is written to the object store has its checkpoints there too.
    let places = bucket.map(|bucket| (format!("{bucket}/{output}"), format!("{bucket}/checkpoints")));
    let (output, checkpoints) = places.unwrap_or_else(|| (output, directory.path().display().to_string()));
    let (read, written) = (input.clone(), output.clone());
    let ends = || {
        if !pipeline.writes_kafka() {
            return String::new();
        }
        let ends = |topic: &str| {
            let of = |isolation| topics::ends(&servers, topic, isolation);
            format!("{topic}: {:?}, committed {:?};", of("read_uncommitted"), of("read_committed"))
        };
        let cluster = Cluster::at(&servers);
        let open = cluster.open_transactions("flott-").unwrap_or_default();
        let open: Vec<_> = open.iter().map(|id| (id, cluster.open_transaction(id))).collect();
        format!("{} {} open transactions: {open:?}", ends(&read), ends(&written))
    };
    let watch = match pipeline {
        Pipeline::KafkaToKafka | Pipeline::PostgresToKafka => {
            topics::create(&servers, &output, 2)?;
            Watch::topic(&servers, &output)?
        }
        Pipeline::KafkaToS3 => Watch::bucket(s3.context("no object store runs")?.address(), &output)?,
        Pipeline::KafkaToPostgresTransactional => Watch::table(&direct, &output),
        Pipeline::KafkaToPostgresEager => Watch::table(&direct, &format!("{output}_committed")),
        Pipeline::KafkaToPostgresUpsert => Watch::last_by_key(&direct, &output),
    };
    let writer = if pipeline.reads_kafka() {
        topics::create(&servers, &input, N_PARTITIONS)?;
        Input::to_topic(&servers, &input, N_PARTITIONS as u64)?
    } else {
        Input::to_table(&direct, &input)?
    };
    let mut processes = Processes::start(Job {
        pipeline,
        kafka: proxied,
        database: behind,
        s3: s3.map(S3::proxied_address).unwrap_or_default(),
        input,
        output,
        checkpoints,
        parallelism: 2,
        interval_ms: 100 + random.below(200),
        is_unaligned: false,
    })?;
    let mut strikes = Vec::new();
    for _ in 0..n_faults {
        let strike = Strike::any(random, pipeline);
        processes.strike(strike, random)?;
        if services.strike(strike, random)? {
            strikes.push(strike);
        }
        let in_round = || format!("{} after {strikes:?}; {}", pipeline.name(), ends());
        // One in three comes before anything has healed.
        if random.below(3) > 0 {
            let before = watch.n_seen();
            let heals = progress(&watch, &mut processes, random, |seen| seen > before);
            heals.with_context(in_round)?;
            processes.wake();
        }
        std::thread::sleep(Duration::from_millis(random.below(400)));
        watch.check().and_then(|()| watch.check_below(writer.n_begun())).with_context(in_round)?;
        if watch.n_seen() > Input::N_BEFORE {
            writer.change_rows();
        }
    }
    processes.wake();
    let n_records = writer.end()?;
    let all = progress(&watch, &mut processes, random, |seen| seen >= n_records);
    let in_round = || format!("{} after {strikes:?}; {}", pipeline.name(), ends());
    all.with_context(in_round)?;
    // For what comes twice, late.
    std::thread::sleep(Duration::from_millis(500));
    drop(processes);
    let n_committed_reads = watch.n_looks();
    watch.end(n_records).with_context(in_round)?;
    Ok(Outcome { strikes, n_records, seconds: started.elapsed().as_secs_f64(), n_committed_reads })
}

/// Waits until enough is committed.
fn progress(
    watch: &Watch,
    processes: &mut Processes,
    random: &mut Random,
    is_enough: impl Fn(u64) -> bool,
) -> Result<()> {
    let mut failed = None;
    let is_done = wait_until(LIMIT, || {
        failed = processes.revive(random).and_then(|()| watch.check()).err();
        failed.is_some() || is_enough(watch.n_seen())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    ensure!(is_done, "nothing more is committed: {} records for {LIMIT:?}", watch.n_seen());
    Ok(())
}
