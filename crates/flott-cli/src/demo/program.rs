//! The dataflow of the demo.
//!
//! ```text
//! flights ─(paced)─┬─ key_by origin ─ hours, allowed lateness ─┬─ number the corrections ─┬─ hourly/
//!                  │                                           └─ late ─┐                 └─┐
//!                  │                                                    ├─ late/            ├─ screen
//!                  │                                           ┌─ late ─┘                 ┌─┘
//!                  └─ watermarks anew ─ delayed ─ key_by carrier ─ sessions ──────────────┴─ sessions/
//! ```

use super::flight::Flight;
use super::results::{CountDelays, DelaySession, Hour, LateFlight, SESSION_DELAY_MIN, SumHour};
use super::screen::{Line, Screen};
use super::tables;
use super::tally::Tally;
use flott::env::{Env, Instant};
use flott::prelude::*;
use flott::{OperatorReport, Result};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What the demo is told.
#[derive(Clone, Debug)]
pub(super) struct DemoConfig {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
    /// Where results go too, in a run that is exactly once.
    pub(super) database: Option<PathBuf>,
    /// Seconds of arrival time per second of ours.
    pub(super) speed: Option<f64>,
    pub(super) out_of_orderness: Duration,
    pub(super) lateness: Duration,
    pub(super) gap: Duration,
}

impl DemoConfig {
    /// Whether the records that come out of this operator are those that have come in, as a person sees it.
    pub(super) fn is_entry(&self, operator: &OperatorReport) -> bool {
        operator.name == if self.speed.is_some() { PACE } else { SOURCE }
    }
}

/// Names of operators.
const SOURCE: &str = "flights";
const PACE: &str = "pace";

const HOUR: Duration = Duration::from_hours(1);

/// Flights that wait for their time when the input is paced.
const PACED_MAX: usize = 256;

/// Adds the demo to `env`.
pub(super) fn build(
    env: &StreamExecutionEnvironment,
    config: &DemoConfig,
    screen: &Screen,
    tally: &Tally,
) -> Result<()> {
    let in_order_of_schedule = |bound| {
        WatermarkStrategy::for_bounded_out_of_orderness(bound)
            .with_timestamp_assigner(|flight: &Flight, _| flight.sched_dep_ms)
    };
    let source = FileSource::csv(&config.input);
    let mut flights = env
        .from_source(source, in_order_of_schedule(config.out_of_orderness), SOURCE)
        .stream()
        .uid("flights");
    if let Some(speed) = config.speed {
        let pacer = Pacer { env: env.env().clone(), speed, first: Arc::default() };
        flights = flights.async_wait(pacer, pace_config()).name(PACE).uid("pace");
    }

    let late_for_hour = OutputTag::new("late for its hour");
    let hours = flights
        .key_by(|flight| flight.origin.clone())
        .window(TumblingEventTimeWindows::of(HOUR))
        .allowed_lateness(config.lateness)
        .side_output_late_data(&late_for_hour)
        .aggregate_with(SumHour, |origin, ctx, sums| Hour::new(origin, *ctx.window, sums))
        .name("hours")
        .uid("hours");
    let numbered = hours
        .key_by(|hour| (hour.origin.clone(), hour.hour_ms))
        .process(NumberRevisions::new(HOUR + config.lateness))
        .name("revisions")
        .uid("revisions");

    // A correction of a session could join it with another that was shown. So sessions wait as long as hours are
    // corrected, and are final.
    let patience = config.out_of_orderness.saturating_add(config.lateness);
    let late_for_session = OutputTag::new("late for its session");
    let gap_ms = i64::try_from(config.gap.as_millis()).unwrap_or(i64::MAX);
    let sessions = flights
        .assign_timestamps_and_watermarks(in_order_of_schedule(patience))
        .filter(|flight| flight.dep_delay_min.is_some_and(|delay| delay > SESSION_DELAY_MIN))
        .key_by(|flight| flight.carrier.clone())
        .window(EventTimeSessionWindows::with_gap(config.gap))
        .side_output_late_data(&late_for_session)
        .aggregate_with(CountDelays, move |carrier, ctx, delays| {
            DelaySession::new(carrier, *ctx.window, gap_ms, delays)
        })
        .name("sessions")
        .uid("sessions");

    let late = hours
        .side_output(&late_for_hour)
        .map(|flight| LateFlight::new("hour", flight))
        .union(&sessions.side_output(&late_for_session).map(|flight| LateFlight::new("session", flight)));

    let hourly_files = FileSink::csv(config.output.join("hourly"))
        .partition_by(|hour: &Hour| format!("origin={}", hour.origin));
    numbered.sink_to(hourly_files).name("hourly files").uid("hourly files");
    let session_files = FileSink::json(config.output.join("sessions"));
    sessions.sink_to(session_files).name("session files").uid("session files");
    late.sink_to(FileSink::csv(config.output.join("late"))).name("late files").uid("late files");
    if let Some(path) = &config.database {
        numbered.sink_to(tables::hours(path)).name("hours table").uid("hours table");
        sessions.sink_to(tables::sessions(path)).name("sessions table").uid("sessions table");
        late.sink_to(tables::late(path)).name("late table").uid("late table");
    }

    late.sink_to(tally.late_flights()).name("late flights");
    numbered
        .map(Line::Hour)
        .union(&sessions.map(Line::Session))
        .inspect(tally.lines())
        .sink_to(screen.sink())
        .name("screen")
        .set_parallelism(1);
    Ok(())
}

/// Counts how often each hour was emitted.
#[derive(Clone, Debug)]
struct NumberRevisions {
    revisions: ValueState<u32>,
    /// From the start of an hour until it cannot be corrected any more.
    kept_ms: i64,
}

impl NumberRevisions {
    fn new(kept: Duration) -> Self {
        Self {
            revisions: ValueState::new("revisions"),
            kept_ms: i64::try_from(kept.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

impl KeyedProcessFunction<(String, i64), Hour, Hour> for NumberRevisions {
    fn process_element(
        &mut self,
        mut hour: Hour,
        ctx: &mut KeyedContext<'_, (String, i64)>,
        out: &mut Collector<'_, Hour>,
    ) -> UserResult {
        ctx.register_event_time_timer(hour.hour_ms.saturating_add(self.kept_ms));
        hour.revision = *self.revisions.update_or(ctx, 0, |revision| *revision += 1)?;
        out.collect(hour);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        ctx: &mut KeyedContext<'_, (String, i64)>,
        _: &mut Collector<'_, Hour>,
    ) -> UserResult {
        Ok(self.revisions.clear(ctx)?)
    }
}

fn pace_config() -> AsyncWaitConfig {
    AsyncWaitConfig {
        output_mode: AsyncOutputMode::Ordered,
        capacity: PACED_MAX,
        timeout: None,
        retry: AsyncRetryStrategy::NoRetry,
    }
}

/// Lets each flight wait until its arrival, counted from that of the first one, `speed` times as fast as it was.
#[derive(Clone, Debug)]
struct Pacer {
    env: Env,
    speed: f64,
    /// When the first flight was let through, and when it arrived.
    first: Arc<OnceLock<(Instant, i64)>>,
}

impl Pacer {
    fn due_at(&self, flight: &Flight) -> Instant {
        let (started, first_arrival) = *self.first.get_or_init(|| (self.env.now(), flight.arrival_ms));
        let wait_s = flight.arrival_ms.saturating_sub(first_arrival).max(0) as f64 / 1_000.0 / self.speed;
        started + Duration::try_from_secs_f64(wait_s).unwrap_or(Duration::MAX)
    }
}

impl AsyncFunction<Flight, Flight> for Pacer {
    fn async_invoke(&self, flight: Flight) -> impl Future<Output = UserResult<Vec<Flight>>> + Send + 'static {
        let due = self.env.sleep_until(self.due_at(&flight));
        async move {
            due.await;
            Ok(vec![flight])
        }
    }
}
