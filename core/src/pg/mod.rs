//! The PostgreSQL connection machine: bytes in, bytes out, no sockets.
