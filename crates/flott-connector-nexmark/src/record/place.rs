//! Cities and states: few, so that queries find results in few events.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! places {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

places! {
    /// Where a person lives.
    City {
        /// Phoenix.
        Phoenix = "Phoenix",
        /// Los Angeles.
        LosAngeles = "Los Angeles",
        /// San Francisco.
        SanFrancisco = "San Francisco",
        /// Boise.
        Boise = "Boise",
        /// Portland.
        Portland = "Portland",
        /// Bend.
        Bend = "Bend",
        /// Redmond.
        Redmond = "Redmond",
        /// Seattle.
        Seattle = "Seattle",
        /// Kent.
        Kent = "Kent",
        /// Cheyenne.
        Cheyenne = "Cheyenne",
    }
}

places! {
    /// The state of a person.
    State {
        /// Arizona.
        Az = "AZ",
        /// California.
        Ca = "CA",
        /// Idaho.
        Id = "ID",
        /// Oregon.
        Or = "OR",
        /// Washington.
        Wa = "WA",
        /// Wyoming.
        Wy = "WY",
    }
}
