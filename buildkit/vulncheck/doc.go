// Package vulncheck asks Go's database of vulnerabilities about every program of an
// image, with govulncheck.
//
// The programs are stripped, and of a stripped program govulncheck tells what any version
// of its modules would be guilty of, whether or not the code is there: it does not read
// the table of functions, which panics need and which every program keeps. So what it
// says is compared with that table here (linked.go): a vulnerability counts if one of its
// functions is in the program. Inlined functions have their names there too. Where nobody
// has said which functions are vulnerable, having the module is enough.
//
// What counts and does not concern us is named in exceptions.go, with the reason, and
// until when it holds; after that day it is looked at again. An exception that nothing
// needs any more is an error.
//
// Without the database nothing can be said, and that is said: it is fetched from
// $GOVULNDB (a URL, or file:///… of a copy), or else from where Go keeps it. Answers are
// kept for each program and state of the database, so only what changed is asked again.
package vulncheck
