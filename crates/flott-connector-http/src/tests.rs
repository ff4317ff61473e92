mod keys;
mod log;
mod server;
