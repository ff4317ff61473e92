//! The channels through which bids come.

use crate::text::{Field, Letters};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How many channels there are beside the hot ones.
pub const CHANNELS: u16 = 10_000;

/// The names of the channels of every other bid.
pub const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Where a bid came from: `channel-0` to `channel-9999`, then the four of [`HOT_CHANNELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Channel(pub u16);

impl Channel {
    /// The number of the hot channel `idx`.
    #[inline]
    pub(crate) const fn hot(idx: u16) -> Self {
        Self(CHANNELS + idx)
    }

    fn hot_name(self) -> Option<&'static str> {
        HOT_CHANNELS.get(usize::from(self.0.checked_sub(CHANNELS)?)).copied()
    }

    /// The name.
    pub fn name(self) -> Cow<'static, str> {
        match self.hot_name() {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("channel-{}", self.0)),
        }
    }

    /// The page of the channel; nine in ten of the channels that are not hot have a `channel_id` in it.
    pub fn url(self) -> String {
        let mut letters = Letters::new(self.0.into(), Field::Url);
        let [shop, shelf, item] = std::array::from_fn(|_| letters.string(5, '_'));
        let mut url = format!("https://www.nexmark.com/{shop}/{shelf}/{item}/item.htm?query=1");
        if self.hot_name().is_none() && letters.below(10) > 0 {
            let channel_id = i32::from(self.0).reverse_bits().unsigned_abs();
            url.push_str(&format!("&channel_id={channel_id}"));
        }
        url
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hot_name() {
            Some(name) => f.pad(name),
            None => write!(f, "channel-{}", self.0),
        }
    }
}
