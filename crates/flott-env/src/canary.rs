//! Deliberate bugs, to see that the proofs notice them.
//!
//! A canary is a place in the engine that does the wrong thing when somebody asks for it by name. Without the feature `canaries`, which nothing but
//! `cargo xtask canaries` turns on, [`canary`] is a constant `false`, and the compiler removes the place: production builds have
//! neither the branch nor the name.

#[cfg(feature = "canaries")]
static ACTIVE: std::sync::Mutex<Option<&'static str>> = std::sync::Mutex::new(None);

/// Whether the deliberate bug `name` is on.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn canary(name: &str) -> bool {
    let _unused = name;
    false
}

/// Whether the deliberate bug `name` is on.
#[cfg(feature = "canaries")]
pub fn canary(name: &str) -> bool {
    *ACTIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) == Some(name)
}

/// Turns one deliberate bug on, in the whole process, and all others off.
#[cfg(feature = "canaries")]
pub fn release_canary(name: Option<&'static str>) {
    *ACTIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = name;
}
