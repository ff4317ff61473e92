//! The types of what a program keeps by key, before any of it runs: a restore compares them with what a snapshot recorded.

use crate::attempt::AttemptSpec;
use crate::chain::guard;
use crate::factory::BuildContext;
use crate::task_manager::JobSpec;
use flott_env::Env;
use flott_env::sync::mpsc;
use flott_graph::SubtaskId;
use flott_operators::OutputMetrics;
use flott_state::StateTypes;
use flott_types::{NodeId, SubtaskIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

impl JobSpec {
    /// The types of the keyed states of each operator. An operator that cannot be made is left out: its subtasks will say why.
    pub fn state_types(&self, env: &Env) -> BTreeMap<NodeId, StateTypes> {
        let attempt = Arc::new(AttemptSpec::first(0));
        // Nobody listens: nothing that is made here runs.
        let (events, _) = mpsc::channel(1);
        let mut found = BTreeMap::new();
        for vertex in &self.job_graph.vertices {
            for node in &vertex.nodes {
                let ctx = BuildContext {
                    job_id: self.job_id,
                    id: SubtaskId { vertex: vertex.id, subtask: SubtaskIndex(0) },
                    env: env.clone(),
                    name: self.stream_graph.node(*node).name.clone(),
                    uid: self.stream_graph.uid(*node),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                    config: self.config,
                    span: self.spans.get(node).cloned().unwrap_or_default(),
                    metrics: Arc::new(OutputMetrics::default()),
                    events: events.clone(),
                    attempt: Arc::clone(&attempt),
                };
                let factory = self.operators.get(node.0 as usize);
                let types = factory.and_then(|factory| guard(|| factory.state_types(&ctx)).ok());
                found.extend(types.map(|types| (*node, types)));
            }
        }
        found
    }
}
