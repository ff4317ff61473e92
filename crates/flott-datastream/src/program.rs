//! The program being built: the stream graph and, by the same numbers, the factories of operators and edges.

use crate::data_stream::DataStream;
use flott_api::{BadRecord, StartingPosition, Until, WatermarkAlignment, bad_records_tag};
use flott_coordinator::EnumeratorFactory;
use flott_graph::{NodeKind, Partitioning, StreamEdge, StreamGraph, StreamNode};
use flott_operators::{Operator, TwoInputOperator};
use flott_runtime::{
    BuildContext, EdgeFactory, OneInputFactory, OperatorFactory, TwoInputFactory, TypedEdge,
};
use flott_types::{Data, Error, NodeId, Result, TagId};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What is known about a source besides its operator.
#[derive(Clone)]
pub(crate) struct ProgramSource {
    pub(crate) node: NodeId,
    pub(crate) enumerator: EnumeratorFactory,
    pub(crate) alignment: Option<WatermarkAlignment>,
    pub(crate) is_chain: bool,
    pub(crate) has_own_timestamps: bool,
    /// What the program itself says is to be read of it.
    pub(crate) start: Option<StartingPosition>,
    pub(crate) until: Option<Until>,
}

/// The names of a program's operators, once it is no longer the one that is built; also that by which programs of an
/// environment are told apart.
type Identity = Arc<OnceLock<Vec<String>>>;

/// An operator, as streams and sinks hold it. The operators of each program of an environment are numbered from 0: a number alone would, after
/// `execute`, be that of some operator of the next program.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    id: NodeId,
    program: Identity,
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

impl NodeHandle {
    /// Its name in the program that it belongs to, which is over.
    fn former_name(&self) -> String {
        let name = self.program.get().and_then(|names| names.get(self.id.0 as usize));
        name.cloned().unwrap_or_else(|| self.id.to_string())
    }
}

/// What was done with an operator of an earlier program.
#[derive(Clone)]
enum Misuse {
    ReadBy(NodeId),
    Set,
}

#[derive(Clone, Default)]
pub(crate) struct Program {
    identity: Identity,
    /// Operators of earlier programs that this one was to have, by their names.
    misused: Vec<(String, Misuse)>,
    pub(crate) graph: StreamGraph,
    pub(crate) operators: Vec<Arc<dyn OperatorFactory>>,
    pub(crate) edges: Vec<Arc<dyn EdgeFactory>>,
    pub(crate) sources: Vec<ProgramSource>,
    /// The longest allowed lateness of its windows.
    pub(crate) allowed_lateness: Duration,
}

impl Program {
    fn add(&mut self, name: &str, kind: NodeKind, factory: Arc<dyn OperatorFactory>) -> NodeHandle {
        self.operators.push(factory);
        NodeHandle { id: self.graph.add_node(name, kind), program: Arc::clone(&self.identity) }
    }

    /// Lets an operator that was just added read `origins`.
    fn connect<T>(&mut self, origins: Origins<T>, target: &NodeHandle, input: usize) {
        let target = target.id;
        for Origin { node, side, partitioning, edge } in origins.origins {
            if let Some(source) = self.own(&node, Misuse::ReadBy(target)) {
                self.graph.edges.push(StreamEdge { source, target, input, partitioning, side });
                self.edges.push(edge);
            }
        }
    }

    /// The number of an operator; `None`, and the program cannot run, if it is one of an earlier program.
    fn own(&mut self, node: &NodeHandle, otherwise: Misuse) -> Option<NodeId> {
        if Arc::ptr_eq(&self.identity, &node.program) {
            return Some(node.id);
        }
        self.misused.push((node.former_name(), otherwise));
        None
    }

    /// Changes a setting of an operator.
    pub(crate) fn set(&mut self, node: &NodeHandle, change: impl FnOnce(&mut StreamNode)) {
        if let Some(id) = self.own(node, Misuse::Set) {
            self.graph.node_mut(id).map(change);
        }
    }

    /// Changes what is known about a source besides its operator.
    pub(crate) fn set_source(&mut self, node: &NodeHandle, change: impl FnOnce(&mut ProgramSource)) {
        if let Some(id) = self.own(node, Misuse::Set) {
            self.sources.iter_mut().find(|source| source.node == id).map(change);
        }
    }

    /// Checks that it has operators of its own only.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) that names the first that is not.
    pub(crate) fn check_operators(&self) -> Result<()> {
        let Some((name, misuse)) = self.misused.first() else { return Ok(()) };
        let what = match misuse {
            Misuse::ReadBy(id) => format!("operator '{}' reads '{name}'", self.graph.node(*id).name),
            Misuse::Set => format!("the program changes a setting of '{name}'"),
        };
        Err(Error::user(format!(
            "{what}, which belongs to an earlier program of the environment: streams and sinks are of one program, make \
             them anew behind execute"
        )))
    }
}

/// The program that an environment and all its streams share.
#[derive(Clone, Default)]
pub(crate) struct SharedProgram(Arc<Mutex<Program>>);

impl fmt::Debug for SharedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("nodes", &self.lock().graph.nodes.len()).finish_non_exhaustive()
    }
}

impl SharedProgram {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Program> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The program, of which no more becomes: what is added from here on belongs to the next one.
    pub(crate) fn take(&self) -> Program {
        let program = std::mem::take(&mut *self.lock());
        let names = program.graph.nodes.iter().map(|node| node.name.clone()).collect();
        program.identity.set(names).expect("a program is taken once");
        program
    }

    pub(crate) fn add_source(
        &self,
        name: &str,
        factory: Arc<dyn OperatorFactory>,
        source: impl FnOnce(NodeId) -> ProgramSource,
    ) -> NodeHandle {
        let mut program = self.lock();
        let node = program.add(name, NodeKind::Source, factory);
        program.sources.push(source(node.id));
        node
    }

    /// Adds an operator that reads `input` and returns its output.
    pub(crate) fn one_input<I: Data, O: Data, Op: Operator<I, O> + 'static>(
        &self,
        name: &str,
        input: Origins<I>,
        make: impl Fn(&BuildContext) -> Result<Op> + Send + Sync + 'static,
    ) -> Origins<O> {
        let mut program = self.lock();
        let node = program.add(name, NodeKind::OneInput, Arc::new(OneInputFactory::<I, O, _>::new(make)));
        program.connect(input, &node, 0);
        Origins::of(node, None)
    }

    /// Adds a sink that reads `input`.
    pub(crate) fn sink<I: Data, Op: Operator<I, ()> + 'static>(
        &self,
        name: &str,
        input: Origins<I>,
        make: impl Fn(&BuildContext) -> Result<Op> + Send + Sync + 'static,
    ) -> NodeHandle {
        let mut program = self.lock();
        let node = program.add(name, NodeKind::OneInput, Arc::new(OneInputFactory::<I, (), _>::sink(make)));
        program.connect(input, &node, 0);
        node
    }

    /// The records that a source could not read or a sink could not write.
    pub(crate) fn bad_records(&self, node: NodeHandle) -> DataStream<BadRecord> {
        DataStream::new(self.clone(), Origins::of(node, Some(bad_records_tag().id().clone())))
    }

    /// Adds an operator that reads two inputs and returns its output.
    pub(crate) fn two_input<A: Data, B: Data, O: Data, Op: TwoInputOperator<A, B, O> + 'static>(
        &self,
        name: &str,
        first: Origins<A>,
        second: Origins<B>,
        make: impl Fn(&BuildContext) -> Result<Op> + Send + Sync + 'static,
    ) -> Origins<O> {
        let mut program = self.lock();
        let node = program.add(name, NodeKind::TwoInput, Arc::new(TwoInputFactory::<A, B, O, _>::new(make)));
        program.connect(first, &node, 0);
        program.connect(second, &node, 1);
        Origins::of(node, None)
    }
}

/// An output of an operator, and how it is to be divided.
#[derive(Clone)]
struct Origin {
    node: NodeHandle,
    side: Option<TagId>,
    partitioning: Option<Partitioning>,
    edge: Arc<dyn EdgeFactory>,
}

/// Where the records of a stream come from: one operator, or several after a union.
pub(crate) struct Origins<T> {
    origins: Vec<Origin>,
    records: PhantomData<fn() -> T>,
}

impl<T> Clone for Origins<T> {
    fn clone(&self) -> Self {
        Self { origins: self.origins.clone(), records: PhantomData }
    }
}

impl<T> Origins<T> {
    /// The same origins for a holder that does not name the record type, and back.
    pub(crate) fn cast<U>(self) -> Origins<U> {
        Origins { origins: self.origins, records: PhantomData }
    }

    /// The operator whose settings the stream's setters change: the last that was added.
    pub(crate) fn node(&self) -> &NodeHandle {
        &self.origins.last().expect("a stream has at least one origin").node
    }
}

impl<T: Data> Origins<T> {
    pub(crate) fn of(node: NodeHandle, side: Option<TagId>) -> Self {
        let edge: Arc<dyn EdgeFactory> = Arc::new(TypedEdge::<T>::standard());
        Self { origins: vec![Origin { node, side, partitioning: None, edge }], records: PhantomData }
    }

    pub(crate) fn union(mut self, other: Self) -> Self {
        self.origins.extend(other.origins);
        self
    }

    pub(crate) fn partitioned(self, partitioning: Partitioning) -> Self {
        self.divided(partitioning, Arc::new(TypedEdge::<T>::standard()))
    }

    pub(crate) fn divided(mut self, partitioning: Partitioning, edge: Arc<dyn EdgeFactory>) -> Self {
        for origin in &mut self.origins {
            origin.partitioning = Some(partitioning);
            origin.edge = Arc::clone(&edge);
        }
        self
    }
}

/// A function or pipe to be cloned for each subtask. It need not be `Sync`.
pub(crate) struct Prototype<F>(Mutex<F>);

impl<F: Clone> Prototype<F> {
    pub(crate) fn new(function: F) -> Self {
        Self(Mutex::new(function))
    }

    pub(crate) fn instance(&self) -> F {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
