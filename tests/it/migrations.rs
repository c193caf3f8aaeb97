//! Every schema change can be taken back and applied anew, on both databases.
