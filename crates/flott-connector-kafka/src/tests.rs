//! Tests against a model of a broker.
