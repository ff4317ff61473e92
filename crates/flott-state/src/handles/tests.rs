//! Handles of keyed state: what they do, for how long, across restarts and with damaged bytes.

mod binding;
mod damage;
mod model;
mod restart;
mod ttl;
