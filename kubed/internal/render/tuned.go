//go:build !byhand

package render

// tuned says whether programs get flags that they could do without.
const tuned = true
