//! Records that barriers had overtaken, on their way back into the channels of a new attempt.
//!
//! If a subtask has the channels that it had, everything goes back as it was, watermarks too. Otherwise records go to whoever they belong
//! to now, and watermarks that were in flight are left out: they held for one channel, and would run ahead of what others have in
//! flight. What is upstream tells its watermark again, behind the records.

use crate::alignment::OvertakingSettings;
use crate::factory::{Erased, PartitionContext, Share, unerase};
use crate::input_task::Replay;
use crate::task_manager::JobSpec;
use flott_env::canary;
use flott_graph::{Channel, ExecutionGraph, JobVertex, Partitioning};
use flott_schema::Type;
use flott_state::{
    InFlightChannel, InFlightEdge, InFlightElement, InFlightLayout, InFlightPart, Routing, decode_parts,
};
use flott_types::{
    Data, Error, NodeId, RecordBatch, Result, StreamElement, StreamStatus, SubtaskIndex, Watermark,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const fn routing(partitioning: Partitioning) -> Routing {
    match partitioning {
        Partitioning::Hash => Routing::ByKey,
        Partitioning::Custom => Routing::ByFunction,
        Partitioning::Forward
        | Partitioning::Rebalance
        | Partitioning::Rescale
        | Partitioning::Shuffle
        | Partitioning::Broadcast
        | Partitioning::Global => Routing::Any,
    }
}

/// What is put back into the channels of a task, without the types of records.
#[derive(Default)]
pub(crate) struct Replayed {
    event_time: Option<[Vec<(Watermark, StreamStatus)>; 2]>,
    elements: Vec<(Slot, Element)>,
}

/// An input and a channel of its gate.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    input: usize,
    channel: usize,
}

enum Element {
    Records(Erased),
    Watermark(Watermark),
    Status(StreamStatus),
}

impl Replayed {
    /// What goes to one input.
    pub(crate) fn take<T: Data>(&mut self, input: usize) -> Replay<T> {
        let (of_input, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.elements).into_iter().partition(|(slot, _)| slot.input == input);
        self.elements = others;
        let typed = |(slot, element): (Slot, Element)| {
            let element = match element {
                Element::Records(batch) => StreamElement::Records(unerase::<RecordBatch<T>>(batch)),
                Element::Watermark(watermark) => StreamElement::Watermark(watermark),
                Element::Status(status) => StreamElement::Status(status),
            };
            (slot.channel, element)
        };
        let event_time = self.event_time.as_mut().and_then(|inputs| inputs.get_mut(input));
        Replay {
            event_time: event_time.map(std::mem::take),
            elements: of_input.into_iter().map(typed).collect(),
        }
    }
}

/// What was in flight to an operator inside of a chain.
pub struct Chained {
    /// Whose it is now.
    pub(crate) layout: InFlightLayout,
    /// Batches, by the channels of the layout.
    pub(crate) batches: Vec<(usize, Erased)>,
}

impl fmt::Debug for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chained").field("batches", &self.batches.len()).finish_non_exhaustive()
    }
}

/// An operator of a subtask.
pub(crate) struct Place<'a> {
    pub(crate) spec: &'a JobSpec,
    pub(crate) vertex: &'a JobVertex,
    pub(crate) node: NodeId,
    pub(crate) subtask: SubtaskIndex,
}

/// An edge of the program into an operator.
struct Edge {
    idx: usize,
    identity: InFlightEdge,
    partitioning: Partitioning,
}

impl Place<'_> {
    /// How barriers overtake in the task that the operator heads: on the edges `on`.
    pub(crate) fn overtaking(
        &self,
        timeout: Option<Duration>,
        on: &BTreeSet<usize>,
    ) -> Option<OvertakingSettings> {
        let timeout = timeout?;
        let edges = self.edges();
        let layout = self.layout(&edges);
        let of_channel = |channel: &InFlightChannel| edges.get(channel.edge as usize);
        let may = |channel| of_channel(channel).is_some_and(|edge| on.contains(&edge.idx));
        let aligned_only: Vec<_> = layout.channels.iter().map(|channel| !may(channel)).collect();
        if aligned_only.contains(&false) {
            let schema = |edge: &Edge| self.spec.edges.get(edge.idx).and_then(|factory| factory.schema());
            let schemas = edges.iter().map(schema).collect();
            Some(OvertakingSettings { timeout, aligned_only, layout, schemas })
        } else {
            None
        }
    }

    /// What goes back into the channels of the task that the operator heads.
    pub(crate) fn replay(&self, entries: &[Vec<u8>]) -> Result<Replayed> {
        let parts = decode_parts(entries)?;
        let edges = self.edges();
        let layout = self.layout(&edges);
        if let [part] = &*parts
            && same_channels(&part.layout, &layout)
        {
            return self.replay_as_it_was(&edges, &layout, part);
        }
        let mut replayed = Replayed::default();
        for (edge, batch) in self.divide(&edges, &parts)? {
            // The first channel of the edge will do: all of it is read before anything else.
            let channel = layout.channels.iter().position(|channel| channel.edge as usize == edge);
            let slot = channel.map(|channel| self.slot(&edges, &layout, channel));
            let slot = slot.ok_or_else(|| Error::user("an edge with records in flight has no channel"))?;
            replayed.elements.push((slot, Element::Records(batch)));
        }
        Ok(replayed)
    }

    /// What goes first into the operator, which has no channels of its own; `None` if nothing was in flight.
    pub(crate) fn chained(&self, entries: &[Vec<u8>]) -> Result<Option<Chained>> {
        if entries.is_empty() {
            return Ok(None);
        }
        let edges = self.edges();
        let batches = self.divide(&edges, &decode_parts(entries)?)?;
        let mut layout = self.layout(&edges);
        layout.channels = (0..edges.len()).map(|edge| new_channel(edge, self.subtask)).collect();
        if layout.parallelism == 1 {
            // All keys are here, and may be divided by key again.
            layout.edges.iter_mut().for_each(|edge| edge.routing = Routing::ByKey);
        }
        Ok(Some(Chained { layout, batches }))
    }

    fn replay_as_it_was(
        &self,
        edges: &[Edge],
        layout: &InFlightLayout,
        part: &InFlightPart<'_>,
    ) -> Result<Replayed> {
        let InFlightPart { layout: old, elements, .. } = part;
        let mut replayed = Replayed::default();
        let mut statuses: Vec<_> = old.channels.iter().map(status).collect();
        let mut event_time = [Vec::new(), Vec::new()];
        for (channel, (state, status)) in old.channels.iter().zip(&statuses).enumerate() {
            if let Some(of_input) = event_time.get_mut(self.slot(edges, layout, channel).input) {
                of_input.push((state.watermark, *status));
            }
        }
        replayed.event_time = Some(event_time);
        for (channel, element) in elements {
            let slot = self.slot(edges, layout, *channel);
            let element = match element {
                InFlightElement::Records(bytes) => {
                    let edge = layout.channels.get(*channel).and_then(|at| edges.get(at.edge as usize));
                    let edge = edge.ok_or_else(|| Error::user("a channel without an edge"))?;
                    Element::Records(self.read(edge, Share::Whole, bytes, part.schema_of(*channel))?)
                }
                InFlightElement::Watermark(watermark) => Element::Watermark(*watermark),
                InFlightElement::Status(status) => {
                    statuses.get_mut(*channel).into_iter().for_each(|known| *known = *status);
                    Element::Status(*status)
                }
            };
            replayed.elements.push((slot, element));
        }
        // Whoever sends is active again, and does not say so (FLINK-22926).
        for (channel, _) in statuses.iter().enumerate().filter(|(_, status)| **status == StreamStatus::Idle) {
            let active = Element::Status(StreamStatus::Active);
            replayed.elements.push((self.slot(edges, layout, channel), active));
        }
        Ok(replayed)
    }

    /// The records that are this subtask's, by the edge they came on.
    fn divide(&self, edges: &[Edge], parts: &[InFlightPart<'_>]) -> Result<Vec<(usize, Erased)>> {
        let mut divided = Vec::new();
        for part in parts {
            let InFlightPart { layout: old, elements, .. } = part;
            for (channel, element) in elements {
                let (InFlightElement::Records(bytes), Some(identity)) = (element, old.edge_of(*channel))
                else {
                    continue;
                };
                let (number, edge) = find(edges, identity)?;
                if let Some(share) = self.share(edge, identity, old)? {
                    divided.push((number, self.read(edge, share, bytes, part.schema_of(*channel))?));
                }
            }
        }
        Ok(divided)
    }

    /// What this subtask gets of the records that an old one had in flight on an edge.
    fn share(&self, edge: &Edge, of: &InFlightEdge, old: &InFlightLayout) -> Result<Option<Share>> {
        let parallelism = self.vertex.parallelism;
        let changed = |now: &str| {
            Error::user(format!(
                "the snapshot has records in flight on the edge {of}, which is {now} now: restore it with the program that took \
                 it, or take a savepoint, in which nothing is in flight"
            ))
        };
        let to_any = old.subtask.0 % parallelism == self.subtask.0;
        match edge.partitioning {
            Partitioning::Broadcast if parallelism > 1 => Err(changed("a broadcast")),
            Partitioning::Hash | Partitioning::Custom if parallelism > 1 => {
                if of.routing != edge.identity.routing {
                    return Err(changed("divided in another way"));
                }
                let is_same =
                    (old.parallelism, old.max_parallelism) == (parallelism, self.vertex.max_parallelism);
                if is_same {
                    return Ok((old.subtask == self.subtask).then_some(Share::Whole));
                }
                if old.parallelism == parallelism {
                    // Only own records are here, and the key groups are others.
                    return Err(changed("divided into another number of key groups"));
                }
                if canary("in-flight-to-wrong-subtask") {
                    return Ok(to_any.then_some(Share::Whole));
                }
                let ctx = PartitionContext {
                    partitioning: edge.partitioning,
                    producer: SubtaskIndex(0),
                    max_parallelism: self.vertex.max_parallelism,
                    seed: 0,
                    overtakes: false,
                };
                Ok(Some(Share::Routed { ctx, subtask: self.subtask, parallelism }))
            }
            Partitioning::Hash
            | Partitioning::Custom
            | Partitioning::Forward
            | Partitioning::Rebalance
            | Partitioning::Rescale
            | Partitioning::Shuffle
            | Partitioning::Broadcast
            | Partitioning::Global => Ok(to_any.then_some(Share::Whole)),
        }
    }

    fn read(&self, edge: &Edge, share: Share, bytes: &[u8], written: Option<&Arc<Type>>) -> Result<Erased> {
        let factory = self.spec.edges.get(edge.idx);
        let factory = factory.ok_or_else(|| Error::user(format!("edge {} has no factory", edge.idx)))?;
        factory.in_flight(share, bytes, written).map_err(|error| {
            error.context(format!("cannot bring back what was in flight on the edge {}", edge.identity))
        })
    }

    /// All edges into the operator.
    fn edges(&self) -> Vec<Edge> {
        let mut edges: Vec<Edge> = Vec::new();
        for (idx, (edge, partitioning)) in self.spec.job_graph.edges.iter().enumerate() {
            if edge.target != self.node {
                continue;
            }
            let mut identity = InFlightEdge {
                source: self.spec.stream_graph.uid(edge.source),
                target: self.spec.stream_graph.uid(edge.target),
                input: edge.input as u32,
                side: edge.side.clone(),
                ordinal: 0,
                routing: routing(*partitioning),
            };
            while edges.iter().any(|other| other.identity.is(&identity)) {
                identity.ordinal += 1;
            }
            edges.push(Edge { idx, identity, partitioning: *partitioning });
        }
        edges
    }

    /// The channels into the task, in the order of its gates.
    fn layout(&self, edges: &[Edge]) -> InFlightLayout {
        let graph = &self.spec.job_graph;
        let execution_graph = ExecutionGraph::new(graph);
        let inputs =
            (0..2).flat_map(|input| execution_graph.inputs(graph, self.vertex.id, self.subtask, input));
        let channel = |channel: Channel| {
            let edge = edges.iter().position(|edge| edge.idx == channel.edge)?;
            Some(new_channel(edge, channel.producer))
        };
        InFlightLayout {
            subtask: self.subtask,
            parallelism: self.vertex.parallelism,
            max_parallelism: self.vertex.max_parallelism,
            edges: edges.iter().map(|edge| edge.identity.clone()).collect(),
            channels: inputs.filter_map(channel).collect(),
        }
    }

    /// Where channel `number` of both inputs is.
    fn slot(&self, edges: &[Edge], layout: &InFlightLayout, number: usize) -> Slot {
        let input = |channel: &InFlightChannel| {
            edges.get(channel.edge as usize).map_or(0, |edge| edge.identity.input as usize)
        };
        let of = layout.channels.get(number).map_or(0, input);
        let before = layout.channels.iter().take(number).filter(|channel| input(channel) == of);
        Slot { input: of, channel: before.count() }
    }
}

const fn new_channel(edge: usize, producer: SubtaskIndex) -> InFlightChannel {
    InFlightChannel { edge: edge as u32, producer, watermark: Watermark::MIN, is_idle: false }
}

fn status(channel: &InFlightChannel) -> StreamStatus {
    if channel.is_idle { StreamStatus::Idle } else { StreamStatus::Active }
}

fn same_channels(old: &InFlightLayout, new: &InFlightLayout) -> bool {
    let channels = |layout: &InFlightLayout| -> Vec<_> {
        layout.channels.iter().map(|channel| (channel.edge, channel.producer)).collect()
    };
    let place = |layout: &InFlightLayout| (layout.subtask, layout.parallelism, layout.max_parallelism);
    place(old) == place(new) && old.edges == new.edges && channels(old) == channels(new)
}

/// The edge that the snapshot knows, and its number.
fn find<'a>(edges: &'a [Edge], old: &InFlightEdge) -> Result<(usize, &'a Edge)> {
    edges.iter().enumerate().find(|(_, edge)| edge.identity.is(old)).ok_or_else(|| {
        Error::user(format!(
            "the snapshot has records in flight on the edge {old}, which the program does not have: restore it with the program that \
             took it, or take a savepoint, in which nothing is in flight"
        ))
    })
}

/// Whether everything that is in flight in a snapshot has a place in the program.
///
/// # Errors
/// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) that names the edge which has changed.
pub fn check_in_flight(spec: &JobSpec, in_flight: &crate::attempt::InFlight) -> Result<()> {
    for vertex in &spec.job_graph.vertices {
        for node in &vertex.nodes {
            let uid = spec.stream_graph.uid(*node);
            for subtask in (0..vertex.parallelism).map(SubtaskIndex) {
                let Some(entries) = in_flight.get(&(uid.clone(), subtask)) else { continue };
                let place = Place { spec, vertex, node: *node, subtask };
                let edges = place.edges();
                for InFlightPart { layout, elements, .. } in decode_parts(entries)? {
                    let used: BTreeSet<_> = elements.iter().map(|(channel, _)| *channel).collect();
                    for old in used.into_iter().filter_map(|channel| layout.edge_of(channel)) {
                        place.share(find(&edges, old)?.1, old, &layout)?;
                    }
                }
            }
        }
    }
    Ok(())
}
