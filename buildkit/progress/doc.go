// Package progress shows a long build as one line, and writes all of its output to a file.
//
// A build writes lines to a Report. A line "build NAME" or "build: NAME" begins a step. On
// a terminal there is one line, drawn again and again: the step, how far it is, how long
// it takes, and the line written last. How far it is comes from how many lines the same
// step had when it last ended. Elsewhere each step is a line, and so is every half minute
// of a step.
package progress
