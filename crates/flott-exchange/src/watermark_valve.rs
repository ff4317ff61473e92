//! The watermark of a task: the least of its active channels. A pure state machine.

use flott_types::{StreamStatus, Watermark};

#[derive(Clone, Copy, Debug)]
struct Channel {
    watermark: Watermark,
    status: StreamStatus,
    ended: bool,
}

/// What changed for the task. The order is active, watermark, idle, end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValveOutput {
    /// The task's status changed to this.
    pub status: Option<StreamStatus>,
    /// The task's watermark advanced to this.
    pub watermark: Option<Watermark>,
    /// All channels have ended.
    pub end_of_data: bool,
}

/// Combines the watermarks and status of channels.
///
/// The combined watermark never goes back: a channel that becomes active again with an older watermark counts from then
/// on, but what has passed stays passed. When all channels are idle, the watermark is the largest of them, since none
/// holds it back any more; one that has ended does not count, or its last watermark would make all late that the idle
/// ones may still bring.
#[derive(Clone, Debug)]
pub struct WatermarkValve {
    channels: Vec<Channel>,
    watermark: Watermark,
    status: StreamStatus,
}

impl WatermarkValve {
    /// A valve for `n_channels` channels, all active and without a watermark.
    pub fn new(n_channels: usize) -> Self {
        let channel = Channel { watermark: Watermark::MIN, status: StreamStatus::Active, ended: false };
        Self { channels: vec![channel; n_channels], watermark: Watermark::MIN, status: StreamStatus::Active }
    }

    /// A valve whose channels are as they were when somebody else noted them by [`WatermarkValve::channels`].
    pub fn restored(channels: impl IntoIterator<Item = (Watermark, StreamStatus)>) -> Self {
        let channel = |(watermark, status)| Channel { watermark, status, ended: false };
        let mut valve = Self::new(0);
        valve.channels = channels.into_iter().map(channel).collect();
        // What is reached is not news.
        valve.derive();
        valve
    }

    /// Watermark and status of each channel.
    pub fn channels(&self) -> impl Iterator<Item = (Watermark, StreamStatus)> {
        self.channels.iter().map(|channel| (channel.watermark, channel.status))
    }

    /// Whether some channel is active.
    pub fn status(&self) -> StreamStatus {
        self.status
    }

    /// The combined watermark.
    pub fn current(&self) -> Watermark {
        self.watermark
    }

    /// The active channel that holds the watermark back.
    pub fn slowest(&self) -> Option<usize> {
        let active = self.channels.iter().enumerate().filter(|(_, channel)| channel.counts());
        active.min_by_key(|(_, channel)| channel.watermark).map(|(idx, _)| idx)
    }

    /// A channel delivered a watermark. One that goes back is ignored.
    pub fn on_watermark(&mut self, channel: usize, watermark: Watermark) -> ValveOutput {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.watermark = channel.watermark.max(watermark);
        }
        self.derive()
    }

    /// A channel became idle or active.
    pub fn on_status(&mut self, channel: usize, status: StreamStatus) -> ValveOutput {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.status = status;
        }
        self.derive()
    }

    /// A channel ended.
    pub fn on_end_of_data(&mut self, channel: usize) -> ValveOutput {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.ended = true;
        }
        self.derive()
    }

    fn derive(&mut self) -> ValveOutput {
        let end_of_data = self.channels.iter().all(|channel| channel.ended);
        let all_over = self.channels.iter().all(|channel| channel.is_over());
        let active = self.channels.iter().filter(|channel| channel.counts());
        let status = match active.clone().count() {
            // What has ended is not idle: with nothing but ended channels the status stays.
            0 if all_over => self.status,
            0 => StreamStatus::Idle,
            _ => StreamStatus::Active,
        };
        let watermark = active.map(|channel| channel.watermark).min();
        let idle = self.channels.iter().filter(|channel| all_over || !channel.is_over());
        let watermark =
            watermark.or_else(|| idle.map(|channel| channel.watermark).max()).unwrap_or(Watermark::MIN);
        let mut output = ValveOutput { end_of_data, ..ValveOutput::default() };
        if status != self.status {
            self.status = status;
            output.status = Some(status);
        }
        if watermark > self.watermark {
            self.watermark = watermark;
            output.watermark = Some(watermark);
        }
        output
    }
}

impl Channel {
    fn counts(&self) -> bool {
        self.status == StreamStatus::Active && !self.is_over()
    }

    /// Event time has ended on it: that is known before the end of data comes.
    fn is_over(&self) -> bool {
        self.ended || self.watermark == Watermark::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_slowest_active_channel_decides() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, Watermark(5)), ValveOutput::default());
        assert_eq!(valve.on_watermark(1, Watermark(3)).watermark, Some(Watermark(3)));
        assert_eq!(valve.slowest(), Some(1));
        assert_eq!(valve.on_status(1, StreamStatus::Idle).watermark, Some(Watermark(5)));
        assert_eq!(valve.on_watermark(0, Watermark(9)).watermark, Some(Watermark(9)));
        // Back with an older watermark: nothing is taken back, and nothing advances until it has caught up.
        assert_eq!(valve.on_status(1, StreamStatus::Active), ValveOutput::default());
        assert_eq!(valve.on_watermark(0, Watermark(20)), ValveOutput::default());
        assert_eq!(valve.on_watermark(1, Watermark(12)).watermark, Some(Watermark(12)));
    }

    #[test]
    fn the_end_of_one_channel_does_not_hold_the_others() {
        let mut valve = WatermarkValve::new(2);
        valve.on_watermark(0, Watermark(5));
        assert_eq!(valve.on_end_of_data(1).watermark, Some(Watermark(5)));
        valve.on_watermark(0, Watermark::MAX);
        assert!(valve.on_end_of_data(0).end_of_data);
    }

    #[test]
    fn an_ended_channel_does_not_complete_event_time_for_an_idle_one() {
        let mut valve = WatermarkValve::new(2);
        valve.on_watermark(0, Watermark::MAX);
        valve.on_watermark(1, Watermark(7));
        assert_eq!(valve.on_end_of_data(0).watermark, None);
        let idle = valve.on_status(1, StreamStatus::Idle);
        assert_eq!((idle.status, idle.watermark), (Some(StreamStatus::Idle), None));
        valve.on_status(1, StreamStatus::Active);
        assert_eq!(valve.on_watermark(1, Watermark(8)).watermark, Some(Watermark(8)));
    }

    #[test]
    fn the_end_of_one_channel_does_not_end_event_time_for_an_idle_one() {
        let mut valve = WatermarkValve::new(2);
        valve.on_watermark(0, Watermark(5));
        valve.on_watermark(1, Watermark(3));
        assert_eq!(valve.on_status(1, StreamStatus::Idle).watermark, Some(Watermark(5)));
        let ended = valve.on_watermark(0, Watermark::MAX);
        assert_eq!((ended.watermark, ended.status), (None, Some(StreamStatus::Idle)));
        assert_eq!(valve.on_end_of_data(0), ValveOutput::default());
        assert_eq!(valve.on_status(1, StreamStatus::Active).status, Some(StreamStatus::Active));
        assert_eq!(valve.on_watermark(1, Watermark(9)).watermark, Some(Watermark(9)));
        assert_eq!(valve.on_watermark(1, Watermark::MAX).watermark, Some(Watermark::MAX));
        assert!(valve.on_end_of_data(1).end_of_data);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Watermark(usize, i64),
        Status(usize, bool),
        End(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..3_usize, 0..50_i64).prop_map(|(channel, at)| Op::Watermark(channel, at)),
            2 => (0..3_usize, any::<bool>()).prop_map(|(channel, idle)| Op::Status(channel, idle)),
            1 => (0..3_usize).prop_map(Op::End),
        ]
    }

    proptest! {
        /// Against the definition, computed from scratch after each step.
        #[test]
        fn matches_the_definition(ops in prop::collection::vec(op(), 0..60)) {
            let mut valve = WatermarkValve::new(3);
            let mut model = [(i64::MIN, true, false); 3];
            let mut reached = i64::MIN;
            for op in ops {
                let output = match op {
                    Op::Watermark(channel, at) => {
                        model[channel].0 = model[channel].0.max(at);
                        valve.on_watermark(channel, Watermark(at))
                    }
                    Op::Status(channel, idle) => {
                        model[channel].1 = !idle;
                        valve.on_status(channel, if idle { StreamStatus::Idle } else { StreamStatus::Active })
                    }
                    Op::End(channel) => {
                        model[channel].2 = true;
                        valve.on_end_of_data(channel)
                    }
                };
                let active: Vec<i64> = model.iter().filter(|c| c.1 && !c.2).map(|c| c.0).collect();
                let all_ended = model.iter().all(|c| c.2);
                let idle = model.iter().filter(|c| all_ended || !c.2).map(|c| &c.0).max();
                let now = active.iter().min().or(idle).copied().unwrap_or(i64::MIN);
                let advanced = (now > reached).then_some(Watermark(now));
                reached = reached.max(now);
                prop_assert_eq!(output.watermark, advanced);
                prop_assert_eq!(output.end_of_data, model.iter().all(|c| c.2));
            }
        }
    }
}
