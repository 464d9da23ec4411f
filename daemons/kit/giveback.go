package kit

import "runtime/debug"

// giveBack returns what only the start needed.
func giveBack() { debug.FreeOSMemory() }
