//! The program being built: the stream graph and, by the same numbers, the factories of operators and edges.

use crate::data_stream::DataStream;
use flott_api::{BadRecord, StartingPosition, Until, WatermarkAlignment, bad_records_tag};
use flott_coordinator::EnumeratorFactory;
use flott_graph::{NodeKind, Partitioning, StreamEdge, StreamGraph};
use flott_operators::{Operator, TwoInputOperator};
use flott_runtime::{
    BuildContext, EdgeFactory, OneInputFactory, OperatorFactory, TwoInputFactory, TypedEdge,
};
use flott_types::{Data, NodeId, Result, TagId};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known about a source besides its operator.
#[derive(Clone)]
pub(crate) struct ProgramSource {
    pub(crate) node: NodeId,
    pub(crate) enumerator: EnumeratorFactory,
    pub(crate) alignment: Option<WatermarkAlignment>,
    pub(crate) is_chain: bool,
    /// What the program itself says is to be read of it.
    pub(crate) start: Option<StartingPosition>,
    pub(crate) until: Option<Until>,
}

#[derive(Clone, Default)]
pub(crate) struct Program {
    pub(crate) graph: StreamGraph,
    pub(crate) operators: Vec<Arc<dyn OperatorFactory>>,
    pub(crate) edges: Vec<Arc<dyn EdgeFactory>>,
    pub(crate) sources: Vec<ProgramSource>,
    /// The longest allowed lateness of its windows.
    pub(crate) allowed_lateness: Duration,
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

    pub(crate) fn add(&self, name: &str, kind: NodeKind, factory: Arc<dyn OperatorFactory>) -> NodeId {
        let mut program = self.lock();
        program.operators.push(factory);
        program.graph.add_node(name, kind)
    }

    /// Adds an operator that reads `input` and returns its output.
    pub(crate) fn one_input<I: Data, O: Data, Op: Operator<I, O> + 'static>(
        &self,
        name: &str,
        input: Origins<I>,
        make: impl Fn(&BuildContext) -> Result<Op> + Send + Sync + 'static,
    ) -> Origins<O> {
        let node = self.add(name, NodeKind::OneInput, Arc::new(OneInputFactory::<I, O, _>::new(make)));
        self.connect(input, node, 0);
        Origins::of(node, None)
    }

    /// Adds a sink that reads `input`.
    pub(crate) fn sink<I: Data, Op: Operator<I, ()> + 'static>(
        &self,
        name: &str,
        input: Origins<I>,
        make: impl Fn(&BuildContext) -> Result<Op> + Send + Sync + 'static,
    ) -> NodeId {
        let node = self.add(name, NodeKind::OneInput, Arc::new(OneInputFactory::<I, (), _>::sink(make)));
        self.connect(input, node, 0);
        node
    }

    /// The records that a source could not read or a sink could not write.
    pub(crate) fn bad_records(&self, node: NodeId) -> DataStream<BadRecord> {
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
        let node = self.add(name, NodeKind::TwoInput, Arc::new(TwoInputFactory::<A, B, O, _>::new(make)));
        self.connect(first, node, 0);
        self.connect(second, node, 1);
        Origins::of(node, None)
    }

    pub(crate) fn connect<T>(&self, origins: Origins<T>, target: NodeId, input: usize) {
        let mut program = self.lock();
        for origin in origins.origins {
            let Origin { node, side, partitioning, edge } = origin;
            program.graph.edges.push(StreamEdge { source: node, target, input, partitioning, side });
            program.edges.push(edge);
        }
    }
}

/// An output of an operator, and how it is to be divided.
#[derive(Clone)]
struct Origin {
    node: NodeId,
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
    pub(crate) fn node(&self) -> NodeId {
        self.origins.last().expect("a stream has at least one origin").node
    }
}

impl<T: Data> Origins<T> {
    pub(crate) fn of(node: NodeId, side: Option<TagId>) -> Self {
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
