//! What operators do about the functions that they call.

use flott_api::BoxError;
use flott_types::Error;

/// An error of a user function. One that the engine made, for example a state handle, keeps its kind; `what` names
/// the function.
#[cold]
pub(crate) fn user_error(what: &str, error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error.context(format!("{what} failed")),
        Err(error) => Error::user(format!("{what} failed")).with_source(error),
    }
}

/// Counts the records of a batch that were processed and leaves the count behind when it goes out of scope, by an error
/// or a panic too. The count itself stays in a register.
pub(crate) struct Progress<'a> {
    place: &'a mut usize,
    n_processed: usize,
}

impl<'a> Progress<'a> {
    #[inline(always)]
    pub(crate) fn start(place: &'a mut usize) -> Self {
        Self::start_at(place, 0)
    }

    /// Starts when some records of the batch were processed already.
    #[inline(always)]
    pub(crate) fn start_at(place: &'a mut usize, n_processed: usize) -> Self {
        Self { place, n_processed }
    }

    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.n_processed += 1;
    }

    #[inline(always)]
    pub(crate) fn advance_if(&mut self, processed: bool) {
        self.n_processed += usize::from(processed);
    }
}

impl Drop for Progress<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.place = self.n_processed;
    }
}
