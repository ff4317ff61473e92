//! Closures over single records that compose into one, as iterators do: `map`, `filter`, `flat_map`, `inspect`.
//!
//! A run of them in a typed program becomes one value of a nested type, so a record goes through the whole run without
//! a virtual call and without a collection in between. [`FusedOperator`](crate::FusedOperator) loops over batches.
//! Records keep their timestamps: a pipe does not see them.

use flott_api::{BoxError, UserResult};
use std::fmt;
use std::marker::PhantomData;

/// How many records a pipe makes of one. It decides only how the loop around the pipe is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fanout {
    /// None, or an error.
    None,
    /// Always one; the pipe cannot fail.
    One,
    /// One, none or an error.
    AtMostOne,
    /// Any number, or an error.
    Any,
}

impl Fanout {
    /// The fanout of a pipe with this fanout followed by one with `next`.
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::AtMostOne, _) | (_, Self::AtMostOne) => Self::AtMostOne,
            (Self::One, Self::One) => Self::One,
        }
    }
}

/// What becomes of a record: any number of records, which go to `emit`, or an error.
pub trait Pipe: Clone + Send + 'static {
    /// The records that come in.
    type In;
    /// The records that go out.
    type Out;
    /// How many records go out for one that comes in; `push` keeps to it.
    const FANOUT: Fanout;

    /// Puts a record through.
    ///
    /// # Errors
    /// The first error of a function of the pipe or of `emit`; nothing is emitted after it.
    fn push<E: FnMut(Self::Out) -> UserResult>(&mut self, record: Self::In, emit: &mut E) -> UserResult;
}

/// The pipe that does nothing: the start of every other.
pub struct Identity<T>(PhantomData<fn(T) -> T>);

impl<T> Identity<T> {
    /// The pipe.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Identity<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Identity<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Identity<T> {}

impl<T> fmt::Debug for Identity<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl<T: 'static> Pipe for Identity<T> {
    type In = T;
    type Out = T;
    const FANOUT: Fanout = Fanout::One;

    #[inline(always)]
    fn push<E: FnMut(T) -> UserResult>(&mut self, record: T, emit: &mut E) -> UserResult {
        emit(record)
    }
}

/// A pipe and a function behind it. The bounds of `new` tell the compiler the types of a closure's arguments.
macro_rules! pipes {
    ($($(#[doc = $doc:literal])+ $name:ident[$($param:ident),*] where { $($bounds:tt)+ })*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy)]
            pub struct $name<P, F> {
                pipe: P,
                function: F,
            }

            impl<P: Pipe, F> $name<P, F> {
                /// Puts `function` behind `pipe`.
                pub const fn new<$($param),*>(pipe: P, function: F) -> Self
                where
                    $($bounds)+
                {
                    Self { pipe, function }
                }
            }

            impl<P: fmt::Debug, F> fmt::Debug for $name<P, F> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{:?}.{}", self.pipe, stringify!($name))
                }
            }
        )*
    };
}

pipes! {
    /// One record for each.
    Map[U] where { F: FnMut(P::Out) -> U }
    /// The records for which the function says true.
    Filter[] where { F: FnMut(&P::Out) -> bool }
    /// Any number of records for each.
    FlatMap[R] where { F: FnMut(P::Out) -> R, R: IntoIterator }
    /// Looks at each record.
    Inspect[] where { F: FnMut(&P::Out) }
    /// Takes each record and lets none through, for the end of a stream.
    ForEach[] where { F: FnMut(P::Out) }
    /// [`Map`] that may fail.
    TryMap[U, X] where { F: FnMut(P::Out) -> Result<U, X>, X: Into<BoxError> }
    /// [`Filter`] that may fail.
    TryFilter[X] where { F: FnMut(&P::Out) -> Result<bool, X>, X: Into<BoxError> }
    /// [`FlatMap`] that may fail.
    TryFlatMap[R, X] where { F: FnMut(P::Out) -> Result<R, X>, R: IntoIterator, X: Into<BoxError> }
    /// [`ForEach`] that may fail.
    TryForEach[X] where { F: FnMut(P::Out) -> Result<(), X>, X: Into<BoxError> }
}

impl<P, U, F> Pipe for Map<P, F>
where
    P: Pipe,
    F: FnMut(P::Out) -> U + Clone + Send + 'static,
{
    type In = P::In;
    type Out = U;
    const FANOUT: Fanout = P::FANOUT;

    #[inline(always)]
    fn push<E: FnMut(U) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| emit((self.function)(record)))
    }
}

impl<P, F> Pipe for Filter<P, F>
where
    P: Pipe,
    F: FnMut(&P::Out) -> bool + Clone + Send + 'static,
{
    type In = P::In;
    type Out = P::Out;
    const FANOUT: Fanout = P::FANOUT.then(Fanout::AtMostOne);

    #[inline(always)]
    fn push<E: FnMut(P::Out) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| if (self.function)(&record) { emit(record) } else { Ok(()) })
    }
}

impl<P, R, F> Pipe for FlatMap<P, F>
where
    P: Pipe,
    R: IntoIterator,
    F: FnMut(P::Out) -> R + Clone + Send + 'static,
{
    type In = P::In;
    type Out = R::Item;
    const FANOUT: Fanout = Fanout::Any;

    #[inline(always)]
    fn push<E: FnMut(R::Item) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| (self.function)(record).into_iter().try_for_each(&mut *emit))
    }
}

impl<P, F> Pipe for Inspect<P, F>
where
    P: Pipe,
    F: FnMut(&P::Out) + Clone + Send + 'static,
{
    type In = P::In;
    type Out = P::Out;
    const FANOUT: Fanout = P::FANOUT;

    #[inline(always)]
    fn push<E: FnMut(P::Out) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| {
            (self.function)(&record);
            emit(record)
        })
    }
}

impl<P, U, X, F> Pipe for TryMap<P, F>
where
    P: Pipe,
    X: Into<BoxError>,
    F: FnMut(P::Out) -> Result<U, X> + Clone + Send + 'static,
{
    type In = P::In;
    type Out = U;
    const FANOUT: Fanout = P::FANOUT.then(Fanout::AtMostOne);

    #[inline(always)]
    fn push<E: FnMut(U) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| emit((self.function)(record).map_err(X::into)?))
    }
}

impl<P, X, F> Pipe for TryFilter<P, F>
where
    P: Pipe,
    X: Into<BoxError>,
    F: FnMut(&P::Out) -> Result<bool, X> + Clone + Send + 'static,
{
    type In = P::In;
    type Out = P::Out;
    const FANOUT: Fanout = P::FANOUT.then(Fanout::AtMostOne);

    #[inline(always)]
    fn push<E: FnMut(P::Out) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| {
            if (self.function)(&record).map_err(X::into)? { emit(record) } else { Ok(()) }
        })
    }
}

impl<P, R, X, F> Pipe for TryFlatMap<P, F>
where
    P: Pipe,
    R: IntoIterator,
    X: Into<BoxError>,
    F: FnMut(P::Out) -> Result<R, X> + Clone + Send + 'static,
{
    type In = P::In;
    type Out = R::Item;
    const FANOUT: Fanout = Fanout::Any;

    #[inline(always)]
    fn push<E: FnMut(R::Item) -> UserResult>(&mut self, record: P::In, emit: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| {
            (self.function)(record).map_err(X::into)?.into_iter().try_for_each(&mut *emit)
        })
    }
}

impl<P, F> Pipe for ForEach<P, F>
where
    P: Pipe,
    F: FnMut(P::Out) + Clone + Send + 'static,
{
    type In = P::In;
    type Out = ();
    const FANOUT: Fanout = Fanout::None;

    #[inline(always)]
    fn push<E: FnMut(()) -> UserResult>(&mut self, record: P::In, _: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| {
            (self.function)(record);
            Ok(())
        })
    }
}

impl<P, X, F> Pipe for TryForEach<P, F>
where
    P: Pipe,
    X: Into<BoxError>,
    F: FnMut(P::Out) -> Result<(), X> + Clone + Send + 'static,
{
    type In = P::In;
    type Out = ();
    const FANOUT: Fanout = Fanout::None;

    #[inline(always)]
    fn push<E: FnMut(()) -> UserResult>(&mut self, record: P::In, _: &mut E) -> UserResult {
        self.pipe.push(record, &mut |record| (self.function)(record).map_err(X::into))
    }
}
