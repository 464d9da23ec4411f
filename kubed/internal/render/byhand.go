//go:build byhand

package render

// tuned says whether programs get flags that they could do without: here they do not,
// for a comparison.
const tuned = false
