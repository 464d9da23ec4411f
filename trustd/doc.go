// Command trustd owns the machine's keys and certificates: the OS CA, which
// signs the certificate of the API port and those of its clients; the pairing
// code by which the first owner takes an unclaimed machine; and Kubernetes' own
// CAs, with the keys and certificates of all its parts.
//
// It never lets a CA's key leave, never sees a client's or routerd's key (they
// send CSRs, of which only the key is believed), opens no network socket and
// holds no capability. routerd calls it for its own certificate and on behalf
// of clients, consoled asks what to show, kubed has it prepare Kubernetes. It
// calls networkd and PID 1 for the names that a serving certificate must carry, and
// timed for whether the clock is right.
//
// # What survives
//
// What must survive is in /state/trustd.
//
//	authority.pem   certificate and key of the OS CA, made on first boot, never written again
//	secret          the secret half of the pairing code
//	claim.der       the owner's first certificate; that it exists is what "claimed" means
//	issued/*.der    certificates issued to others, by serial; one that has ended goes when room is wanted
//	told            a time that the owner reported, later than the machine's by more than a minute; see Time
//
//	kubernetes/{etcd,kubernetes,front-proxy}.pem   Kubernetes' CAs, made by the first PrepareKubernetes, never written again
//	kubernetes/kubelet.pem                         the CA of kubelets' serving certificates, made when it is first needed
//	kubernetes/service-account.pem                 the key that signs service accounts' tokens
//	kubernetes/encryption.key                      what Secrets are encrypted with in etcd
//
// Every file appears or changes by one rename of a synced copy, so a power cut
// leaves the old state or the new one. Certificate and key are one file for the
// same reason. A damaged file is never recreated, since that would give
// the machine, or its cluster, a second identity behind its owner's back. Without the
// machine's own trustd gives up; without the cluster's the API goes on, and
// PrepareKubernetes says DATA_LOSS and which file. Nothing but the CA is kept in
// memory: while a new trustd takes over from an old one, both answer, and a claim
// accepted by one is seen by the other.
//
// # Claiming
//
// A machine is unclaimed until somebody proves to have read its pairing code.
// The code stays the same over reboots: it may have been noted when the machine
// was flashed, or read just before the power cut that made its reader come. It
// never changes by itself: 60 bits cannot be guessed by asking, and a code that wrong
// proofs change is one that anybody on the network can change while its owner types
// it. Wrong proofs are answered and logged at a limited rate, which a right one
// neither counts for nor waits for.
// Nothing of a claim but its length is looked at before its proof is found right.
//
// The certificate that a claim is answered with and the mark that the machine
// is claimed are one file, written before the answer. So a power cut leaves the
// machine unclaimed, or claimed by a key that exists: whoever lost the answer
// asks again with the same key and the same code and gets the same certificate.
// Anybody else is refused: FAILED_PRECONDITION. An owner who loses key and
// certificate has to wipe STATE; there is no second way in.
//
// # Kubernetes
//
// Four CAs that have nothing to do with the OS CA: an admin of the machine has no
// right in Kubernetes by that, nor the other way round. Each part finds what it needs,
// and nothing of another's, in its folder /run/from/trustd/PART, which only trustd
// writes and only the part's user reads. Besides the CAs of those it talks to:
//
//	etcdd                    server                                      etcd
//	kube-apiserver           tls                                         kubernetes
//	                         etcd-client                                 etcd
//	                         kubelet-client  dactyl:kubelet-clients      kubernetes
//	                         front-proxy-client                          front-proxy
//	                         sa.key sa.pub encryption.yaml
//	kube-controller-manager  client tls                                  kubernetes
//	kube-scheduler           client tls                                  kubernetes
//	coredns                  client                                      kubernetes
//	pods                     kubelet-client  system:nodes                kubernetes
//	                         kube-proxy                                  kubernetes
//	                         kubelet-server                              kubelet
//	kubed                    client          system:masters              kubernetes
//
// (FILE.crt and FILE.key, the group if there is one, the CA; kubernetes.go has it all.)
// The pods' domain is one part: kubelet, kube-proxy and containerd do not guard
// themselves against each other. It may also redirect traffic in the machine's network, so
// the kubelet's serving certificate is of a CA that the API server alone trusts: with one of
// Kubernetes' CA the domain could pass for the API server. The serving certificates of
// kube-controller-manager and kube-scheduler are for those names only, by which kubed asks
// for them. What kubectl gets (IssueKubernetesClient) is in the
// group dactyl:admins, to which kubed gives its rights.
//
// The folders are memory. A boot empties them and kubed asks again; a certificate lasts
// a day, is renewed at two thirds, and is replaced at once when a name or address of
// its changes. What is right stays as it is: asked twice, trustd writes nothing. For a
// renewal it takes the names from the certificate itself, so it needs no kubed, and
// a trustd that was just started goes on where the last one was.
//
// A renewal changes FILE.crt alone, by rename: a key stays until the next boot. Whoever
// uses a pair opens two files, one after the other, and no way of replacing both (not
// even a link to a new directory) keeps him from finding one of each generation; etcd then
// fails a handshake. Two trustds at work, or one that ends between two renames, would
// leave such a pair lying. With one key all of this cannot be. What is lost is little:
// whoever could read a part's key can read its next one too, until the hole he came by
// is closed, and that is a new image: a boot.
//
// There is no file for a part that the image does not have. Nothing is taken away when
// Kubernetes goes from the configuration; the next boot does.
//
// # Records and lineage
//
// Each client certificate that came from a CSR has its lineage in it, a URI of serials
// (ipc/trust, Lineage): a client that is to be removed later is removed with all whose certificates
// descend from it, records or no records. Each issue is logged with the serials of the new
// certificate and of the caller's. On record are 1024 clients of the API, of which a renewed
// one needs the room of its last renewal only, besides them the owner's last 4 renewals, and
// the last 256 certificates for Kubernetes;
// another client than those 1024 is refused while all are in force, a renewal never.
//
// # Time
//
// A machine without a battery starts with a clock that is behind, sometimes by
// years; one with a broken clock may be ahead until the network corrects it. So
// certificates begin at a fixed date before the first Dactyl was built, and
// CAs have no end (their end is a rotation). A claimer reports its own clock: where
// that is later, all lives are counted from it and the time since, or by a right clock
// what the machine signs would have ended before it was signed. A boot loses the time
// that the machine was off; only a network knows it. The claimer's clock may be wrong too:
// a time more than ten years after the build of the image is refused, and a reported time is
// dropped as soon as timed says that a time server has confirmed the machine's clock, after
// which none is taken. What a clock that was ahead has
// signed for Kubernetes is replaced as soon as the clock is right, and no record is
// dropped because of what the clock says.
package main
