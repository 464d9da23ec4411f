// Command crasher stands for a new version of a daemon that crashes at once.
package main

func main() { panic("crasher: as the scenario wants it") }
