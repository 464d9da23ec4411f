package manifest

import (
	"context"
	"path"
	"path/filepath"
	"sort"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// Service is one service of ipc/ as its .proto declares it.
type Service struct {
	Short   string // folder under ipc/, name of the socket
	Full    string // dactyl.network.v1.Network
	Only    string // image mode; empty = every image
	Methods []Method
	file    protoreflect.FileDescriptor
}

// Method is one RPC.
type Method struct {
	Name         string
	Role         string // word for the least role from outside; empty = not reachable
	Idempotent   bool
	ClientStream bool
	ServerStream bool
}

// Services reads ipc/*/*.proto under root, for images of the given mode,
// sorted by short name.
func Services(ctx context.Context, root, mode string) ([]Service, error) {
	sources, err := filepath.Glob(filepath.Join(root, "ipc/*/*.proto"))
	if err != nil {
		return nil, err
	}
	for i := range sources {
		sources[i], _ = filepath.Rel(root, sources[i])
	}
	sort.Strings(sources)
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoNone,
	}
	files, err := c.Compile(ctx, sources...)
	if err != nil {
		return nil, err
	}
	var out []Service
	for _, f := range files {
		for i := range f.Services().Len() {
			s, err := service(f, f.Services().Get(i))
			if err != nil {
				return nil, err
			}
			if inMode(s.Only, mode) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func service(f protoreflect.FileDescriptor, d protoreflect.ServiceDescriptor) (Service, error) {
	s := Service{Short: path.Base(path.Dir(f.Path())), Full: string(d.FullName()), Only: option(d, auth.E_Only).(string), file: f}
	for i := range d.Methods().Len() {
		m := d.Methods().Get(i)
		role := option(m, auth.E_Role).(auth.Role)
		o, _ := m.Options().(*descriptorpb.MethodOptions)
		s.Methods = append(s.Methods, Method{
			Name: string(m.Name()), Role: words.Of(role),
			Idempotent:   o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
			ClientStream: m.IsStreamingClient(), ServerStream: m.IsStreamingServer(),
		})
	}
	return s, nil
}

// option reads an option of a descriptor that was compiled in this process, where
// extensions may still be unparsed bytes. Its value is the zero value of its type where
// there is none.
func option(d protoreflect.Descriptor, x protoreflect.ExtensionType) any {
	o := d.Options().ProtoReflect().New().Interface()
	if b, err := proto.Marshal(d.Options()); err != nil || proto.Unmarshal(b, o) != nil {
		return x.InterfaceOf(x.Zero())
	}
	return proto.GetExtension(o, x)
}

// Descriptors returns the FileDescriptorSet of services with all they import,
// dependencies first: what reflection serves.
func Descriptors(services []Service) ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, s := range services {
		collect(s.file, seen, set)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(set)
}

func collect(f protoreflect.FileDescriptor, seen map[string]bool, into *descriptorpb.FileDescriptorSet) {
	if seen[f.Path()] {
		return
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		collect(f.Imports().Get(i).FileDescriptor, seen, into)
	}
	into.File = append(into.File, protodesc.ToFileDescriptorProto(f))
}
