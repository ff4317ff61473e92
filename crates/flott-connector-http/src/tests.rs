mod log;
mod server;
