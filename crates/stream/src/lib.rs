//! WebSocket and SPDY/3.1 channels as codecs without I/O.
