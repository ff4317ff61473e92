mod contract;
mod keys;
mod log;
mod server;
mod world;
