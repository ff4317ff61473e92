//! Builds the engine's program from a plan.

mod stateless;
mod windows;

use crate::functions::{
    CountBroadcast, Divide, JoinAll, Keyed, LookUpAtEnd, Mistake, Place, Probe, Saboteur, Sides, SlowCall,
    Stamp, lift, pair, running,
};
use crate::lab::{Lab, Taps};
use crate::plan::{
    AsyncPlan, Chaining, Config, Exchange, Node, Op, Plan, Port, PortFacts, SourcePlan, WindowFunction, facts,
};
use crate::record::{Record, mix};
use crate::source::{SimSource, strategy};
use flott_api::sinks::collect_sink;
use flott_api::{AsyncRetryStrategy, OutputTag};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_env::Env;
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_types::{Configuration, MemorySize, Result, options};
use std::time::Duration;

type Stream = DataStream<Record>;

/// A mistake to build in: which, behind which operator, and at which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    /// What goes wrong.
    pub mistake: Mistake,
    /// At the main output of which operator.
    pub node: usize,
    /// At which record of a subtask.
    pub at: u64,
}

/// A program ready to run, and where it leaves its results.
pub(crate) struct Program {
    pub(crate) env: StreamExecutionEnvironment,
    pub(crate) taps: Taps,
    pub(crate) lab: Lab,
}

fn configuration(config: &Config) -> Configuration {
    let ms = Duration::from_millis;
    let mut configuration = Configuration::default();
    configuration.set_option(options::PARALLELISM_DEFAULT, &config.parallelism);
    configuration.set_option(options::MAX_PARALLELISM, &config.max_parallelism);
    configuration.set_option(options::BATCH_SIZE, &config.batch_size);
    configuration.set_option(options::CHANNEL_MEMORY, &MemorySize(config.gate_bytes));
    configuration.set_option(options::BUFFER_TIMEOUT, &ms(config.buffer_timeout_ms));
    configuration.set_option(options::WATERMARK_GRANULARITY, &ms(config.granularity_ms));
    configuration.set_option(options::AUTO_WATERMARK_INTERVAL, &ms(config.auto_watermark_ms));
    configuration.set_option(options::SOURCE_IDLE_TIMEOUT, &ms(config.idle_timeout_ms));
    configuration.set_option(options::OPERATOR_CHAINING_ENABLED, &config.chaining);
    configuration
}

/// Builds `plan` to run in `env`.
///
/// # Errors
/// If the engine refuses the program.
pub(crate) fn build(plan: &Plan, env: Env, sabotage: Option<Sabotage>) -> Result<Program> {
    let known = facts(plan).map_err(flott_types::Error::user)?;
    let lab = Lab::default();
    let job = StreamExecutionEnvironment::with_env(env, configuration(&plan.config));
    let hurries =
        sabotage.filter(|sabotage| sabotage.mistake == Mistake::Hurry).map(|sabotage| sabotage.node);
    let mut builder = Builder { plan, known: &known, job, lab, hurries, streams: Vec::new() };
    for (idx, node) in plan.nodes.iter().enumerate() {
        let mut outputs = builder.node(idx, node)?;
        if let (Some(sabotage), Some(main)) =
            (sabotage.filter(|sabotage| sabotage.node == idx), outputs.first_mut())
        {
            let Sabotage { mistake, at, .. } = sabotage;
            let saboteur = Saboteur { lab: builder.lab.clone(), mistake, at, seen: 0, held: None };
            *main = main.process(saboteur).name(format!("n{idx}-sabotage")).set_parallelism(node.parallelism);
        }
        builder.streams.push(outputs);
    }
    let mut taps = Taps::new();
    for port in tapped(plan, &known) {
        let stream = builder.stream(port);
        let (sink, handle) = collect_sink();
        let name = format!("n{}.{}-sink", port.node, port.output);
        stream.sink_to(sink).name(name).set_parallelism(builder.parallelism(port));
        taps.insert(port, handle);
    }
    Ok(Program { env: builder.job, taps, lab: builder.lab })
}

/// The outputs that are looked at: what nobody else reads, what depends on the schedule, and some more.
fn tapped(plan: &Plan, known: &[Vec<PortFacts>]) -> Vec<Port> {
    let ports = known
        .iter()
        .enumerate()
        .flat_map(|(node, outputs)| (0..outputs.len()).map(move |output| Port { node, output }));
    let is_tapped = |port: &Port| {
        let node = plan.nodes.get(port.node);
        node.is_some_and(|node| node.tapped || depends_on_schedule(&node.op)) || !plan.is_read(*port)
    };
    ports.filter(is_tapped).collect()
}

/// Whether the output may not be a function of the inputs' records alone.
pub(crate) fn depends_on_schedule(op: &Op) -> bool {
    match op {
        Op::Reduce
        | Op::Keyed(_)
        | Op::IntervalJoin { .. }
        | Op::Window(_)
        | Op::CountWindow(_)
        | Op::BroadcastSeen => true,
        Op::WindowJoin { windows, .. } => windows.is_session(),
        Op::Source(_)
        | Op::Stateless(_)
        | Op::Exchange(_)
        | Op::Union
        | Op::CoProcess
        | Op::KeyedJoin
        | Op::BroadcastJoin
        | Op::Async(_)
        | Op::SideOutput { .. }
        | Op::Reassign { .. } => false,
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    known: &'a [Vec<PortFacts>],
    job: StreamExecutionEnvironment,
    lab: Lab,
    /// The source that promises too much.
    hurries: Option<usize>,
    streams: Vec<Vec<Stream>>,
}

impl Builder<'_> {
    fn stream(&self, port: Port) -> Stream {
        let stream = self.streams.get(port.node).and_then(|outputs| outputs.get(port.output));
        stream.cloned().expect("the plan makes sense, so inputs are outputs of earlier operators")
    }

    fn facts(&self, port: Port) -> &PortFacts {
        let facts = self.known.get(port.node).and_then(|outputs| outputs.get(port.output));
        facts.expect("the plan makes sense, so inputs are outputs of earlier operators")
    }

    fn parallelism(&self, port: Port) -> u32 {
        self.facts(port).parallelism
    }

    /// Name, parallelism and chaining of the operator that was added last.
    fn settle(&self, stream: &Stream, idx: usize, node: &Node) -> Stream {
        let stream = stream.name(format!("n{idx}")).uid(format!("n{idx}")).set_parallelism(node.parallelism);
        match node.chaining {
            Chaining::Always => stream,
            Chaining::Head => stream.start_new_chain(),
            Chaining::Never => stream.disable_chaining(),
            Chaining::Group => stream.slot_sharing_group(format!("group {idx}")),
        }
    }

    fn node(&self, idx: usize, node: &Node) -> Result<Vec<Stream>> {
        let inputs: Vec<Stream> = node.inputs.iter().map(|port| self.stream(*port)).collect();
        let on_time = node.inputs.first().is_some_and(|port| self.facts(*port).on_time);
        let place = Place::new(&self.lab, idx, on_time);
        let settle = |stream: Stream| self.settle(&stream, idx, node);
        let input_parallelism =
            |input: usize| node.inputs.get(input).map_or(1, |port| self.parallelism(*port));
        let stream = match (&node.op, inputs.as_slice()) {
            (Op::Source(source), []) => {
                let from = SimSource::new(source, idx, &self.plan.config);
                let bound_ms = if self.hurries == Some(idx) { 0 } else { source.bound_ms };
                let promised = SourcePlan { bound_ms, ..source.clone() };
                self.job.from_source(from, strategy(&promised), "source").stream()
            }
            (Op::Stateless(steps), [input]) => stateless::fuse(input, steps),
            (Op::Exchange(exchange), [input]) => {
                divide(input, *exchange).process(Probe { place, exchange: Some(*exchange) })
            }
            (Op::Union, [left, right]) => {
                let on_time = self
                    .known
                    .get(idx)
                    .and_then(|outputs| outputs.first())
                    .is_some_and(|facts| facts.on_time);
                let [left, right] = [(left, 1), (right, 2)].map(|(stream, side)| {
                    let marked =
                        stream.map(move |record: Record| Record { uid: mix(record.uid, side), ..record });
                    marked.set_parallelism(input_parallelism(side as usize - 1))
                });
                left.union(&right).process(Probe { place: Place { on_time, ..place }, exchange: None })
            }
            (Op::Reduce, [input]) => input.key_by(|record| record.key).reduce(running),
            (Op::Keyed(function), [input]) => {
                input.key_by(|record| record.key).process(Keyed::new(place, *function))
            }
            (Op::CoProcess, [left, right]) => left.connect(right).process(Sides),
            (Op::KeyedJoin, [left, right]) => {
                let (left, right) = (left.key_by(|record| record.key), right.key_by(|record| record.key));
                left.connect(&right).process(JoinAll::new(idx))
            }
            (Op::IntervalJoin { lower_ms, upper_ms, late_output }, [left, right]) => {
                let (left, right) = (left.key_by(|record| record.key), right.key_by(|record| record.key));
                let mut join = left.connect(&right).interval_join(*lower_ms..=*upper_ms)?;
                let late = [OutputTag::new("late left"), OutputTag::new("late right")];
                if *late_output {
                    join = join.side_output_late_first(&late[0]).side_output_late_second(&late[1]);
                }
                let joined = settle(join.process(move |left: &Record, right: &Record, out| {
                    out.collect(pair(idx, left, right));
                    Ok(())
                }));
                let late = late
                    .iter()
                    .filter(|_| *late_output)
                    .map(|tag| joined.side_output(tag))
                    .collect::<Vec<_>>();
                return Ok([vec![joined], late].concat());
            }
            (Op::Window(window), [input]) => {
                // A reduce folds records, so they have to look like sums.
                let input = match window.function {
                    WindowFunction::Reduce => input.map(lift).set_parallelism(input_parallelism(0)),
                    _ => input.clone(),
                };
                let made =
                    windows::Made { plan: window, node: idx, parallelism: node.parallelism, lab: &self.lab };
                return Ok(made.window(&input, settle));
            }
            (Op::CountWindow(window), [input]) => {
                return Ok(vec![windows::count_window(input, *window, idx, &self.lab, settle)]);
            }
            (Op::WindowJoin { windows, co_group: true }, [left, right]) => {
                windows::window_join(left, right, *windows, true, idx)
            }
            (Op::WindowJoin { windows, co_group: false }, [left, right]) => {
                let joined = settle(windows::window_join(left, right, *windows, false, idx));
                let stamp = Stamp { node: idx, over_all: false, in_order: true };
                let stamped = joined.process(stamp).name(format!("n{idx}-stamp"));
                return Ok(vec![stamped.set_parallelism(node.parallelism)]);
            }
            (Op::BroadcastJoin, [main, broadcast]) => {
                let main = main.key_by(|record| record.key);
                main.connect_broadcast(&broadcast.to_broadcast()).process(LookUpAtEnd::new(place))
            }
            (Op::BroadcastSeen, [main, broadcast]) => {
                main.connect_broadcast(&broadcast.to_broadcast()).process(CountBroadcast::new())
            }
            (Op::Async(plan), [input]) => {
                let (lab, env) = (self.lab.clone(), self.job.env().clone());
                input.async_wait(SlowCall { lab, env, node: idx, plan: *plan }, async_config(plan))
            }
            (Op::SideOutput { modulus }, [input]) => {
                let side = OutputTag::new("side");
                let main = settle(input.process(Divide { place, modulus: *modulus, side: side.clone() }));
                let side = main.side_output(&side);
                return Ok(vec![main, side]);
            }
            (Op::Reassign { bound_ms }, [input]) => {
                let strategy = flott_api::WatermarkStrategy::for_bounded_out_of_orderness(
                    Duration::from_millis(*bound_ms),
                );
                // What the splits knew of watermarks does not hold any more.
                let forgotten = input.map(|record: Record| Record { horizon: i64::MAX, ..record });
                forgotten.set_parallelism(node.parallelism).assign_timestamps_and_watermarks(strategy)
            }
            (op, inputs) => panic!("{op} with {} inputs: the plan was not checked", inputs.len()),
        };
        Ok(vec![settle(stream)])
    }
}

fn divide(stream: &Stream, exchange: Exchange) -> Stream {
    match exchange {
        Exchange::Forward => stream.forward(),
        Exchange::Rebalance => stream.rebalance(),
        Exchange::Rescale => stream.rescale(),
        Exchange::Shuffle => stream.shuffle(),
        Exchange::Broadcast => stream.broadcast(),
        Exchange::Global => stream.global(),
        Exchange::Custom => {
            stream.partition_custom(|key: &u32, n| *key as usize % n, |record: &Record| record.key)
        }
    }
}

fn async_config(plan: &AsyncPlan) -> AsyncWaitConfig {
    AsyncWaitConfig {
        output_mode: if plan.ordered { AsyncOutputMode::Ordered } else { AsyncOutputMode::Unordered },
        capacity: plan.capacity,
        timeout: plan.timeout_ms.map(Duration::from_millis),
        retry: if plan.retry {
            AsyncRetryStrategy::FixedDelay { attempts: 2, delay: Duration::from_millis(3) }
        } else {
            AsyncRetryStrategy::NoRetry
        },
    }
}
