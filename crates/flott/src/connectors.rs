//! Sources and sinks of outside systems, each behind a cargo feature of its own.

/// Files and directories: text lines, CSV, JSON lines, compressed or not, read once or watched, written in parts.
#[cfg(feature = "file")]
pub mod file {
    pub use flott_connector_file::*;
}

/// The Nexmark generator: persons, auctions and bids.
#[cfg(feature = "nexmark")]
pub mod nexmark {
    pub use flott_connector_nexmark::*;
}

/// Parquet files: a format for [`FileSource`](file::FileSource) and [`FileSink`](file::FileSink).
#[cfg(feature = "parquet")]
pub mod parquet {
    pub use flott_format_parquet::*;
}

/// Text lines from a TCP connection, for trying things out.
#[cfg(feature = "socket")]
pub mod socket {
    pub use flott_connector_socket::*;
}
