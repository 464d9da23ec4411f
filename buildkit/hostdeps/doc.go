// Package hostdeps knows which Debian packages a build machine needs, and why, and
// installs those that are missing.
package hostdeps
