// Package gpt reads, repairs and writes GUID partition tables with sectors of
// 512 bytes.
//
// A disk holds two copies of its table, each a header and an array of entries
// under checksums. The libraries for it write a whole table in an order of their
// own; here the order is the point, so that a power cut leaves one copy valid at
// any moment. What this package does not understand of an entry it keeps as it is.
package gpt
