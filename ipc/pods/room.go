package pods

// How full the disk may get, in percent of it: what podd, which loads images, and the
// kubelet, which removes them and ends pods, must agree on. podd leaves free what the
// kubelet would remove images to get back, so no image that is loaded makes another
// one go; and long before the kubelet ends pods, etcd's database has room.
const (
	CollectPercent = 90                // in use: the kubelet begins to remove images that nothing uses
	CollectedTo    = 85                // in use: it stops
	ReservePercent = 100 - CollectedTo // free: podd loads no image beyond
	EvictPercent   = 5                 // free: the kubelet ends pods
)
