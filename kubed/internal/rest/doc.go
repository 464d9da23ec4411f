// Package rest asks servers on this machine over HTTP/1.1: whether they work, and the
// API server for a few objects. The standard library's client would do as well, and
// make kubed half as large again.
//
// It knows no redirects, no proxies, no compression and no streams; an answer is at
// most 1 MiB. One connection is kept for each server and given up after ten minutes,
// so that a certificate which was renewed is used, and seen, soon.
package rest
