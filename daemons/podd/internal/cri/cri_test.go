package cri

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Of both, all that there is of messages, states and methods.
func ours() protoreflect.FileDescriptor { return File_daemons_podd_internal_cri_cri_proto }

func cris() protoreflect.FileDescriptor {
	return criapi.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
}

// Every message and state is CRI's, as far as it is here.
func TestMessagesAreTheirs(t *testing.T) {
	fields := 0
	for i := range ours().Messages().Len() {
		m := ours().Messages().Get(i)
		their := cris().Messages().ByName(m.Name())
		if their == nil {
			t.Errorf("CRI has no message %s", m.Name())
			continue
		}
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			fields++
			if have, want := shape(f), shape(their.Fields().ByName(f.Name())); have != want {
				t.Errorf("%s.%s is %s: CRI has %s", m.Name(), f.Name(), have, want)
			}
		}
	}
	if fields < 40 {
		t.Errorf("%d fields found", fields)
	}
	for i := range ours().Enums().Len() {
		e := ours().Enums().Get(i)
		their := cris().Enums().ByName(e.Name())
		if their == nil || their.Values().Len() != e.Values().Len() {
			t.Errorf("enum %s is not CRI's", e.Name())
			continue
		}
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			if want := their.Values().ByName(v.Name()); want == nil || want.Number() != v.Number() {
				t.Errorf("%s = %d is not CRI's", v.Name(), v.Number())
			}
		}
	}
}

// shape is what decides how a field is sent.
func shape(f protoreflect.FieldDescriptor) string {
	if f == nil {
		return "nothing"
	}
	s := []string{f.Cardinality().String(), f.Kind().String(), protoName(f.Message()), protoName(f.Enum()), strconv.Itoa(int(f.Number()))}
	if f.IsMap() {
		s = append(s, "of", f.MapKey().Kind().String(), f.MapValue().Kind().String())
	}
	return strings.Join(s, " ")
}

func protoName(d protoreflect.Descriptor) string {
	switch d := d.(type) {
	case protoreflect.MessageDescriptor:
		if d != nil {
			return string(d.Name())
		}
	case protoreflect.EnumDescriptor:
		if d != nil {
			return string(d.Name())
		}
	}
	return ""
}

// recorder is a connection on which nobody answers.
type recorder struct {
	grpc.ClientConnInterface
	t      *testing.T
	called map[string]bool
}

func (r *recorder) Invoke(_ context.Context, method string, in, out any, _ ...grpc.CallOption) error {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	s := cris().Services().ByName(protoreflect.FullName(service).Name())
	if s == nil || string(s.FullName()) != service {
		r.t.Errorf("CRI has no service %s", service)
		return nil
	}
	m := s.Methods().ByName(protoreflect.Name(name))
	if m == nil {
		r.t.Errorf("CRI has no method %s", method)
		return nil
	}
	if have := in.(proto.Message).ProtoReflect().Descriptor().Name(); have != m.Input().Name() {
		r.t.Errorf("%s is asked with %s: CRI wants %s", method, have, m.Input().Name())
	}
	if have := out.(proto.Message).ProtoReflect().Descriptor().Name(); have != m.Output().Name() {
		r.t.Errorf("%s answers %s: CRI has %s", method, have, m.Output().Name())
	}
	r.called[method] = true
	return nil
}

// Every method asks what CRI answers, with its messages.
func TestMethodsAreTheirs(t *testing.T) {
	r := &recorder{t: t, called: map[string]bool{}}
	c, ctx := Client{r}, t.Context()
	c.Version(ctx, &VersionRequest{})
	c.Status(ctx, &StatusRequest{})
	c.ListPodSandbox(ctx, &ListPodSandboxRequest{})
	c.StopPodSandbox(ctx, &StopPodSandboxRequest{})
	c.ListContainers(ctx, &ListContainersRequest{})
	c.StopContainer(ctx, &StopContainerRequest{})
	c.ListImages(ctx, &ListImagesRequest{})
	c.ImageStatus(ctx, &ImageStatusRequest{})
	c.RemoveImage(ctx, &RemoveImageRequest{})
	if len(r.called) != 9 {
		t.Errorf("%d methods called", len(r.called))
	}
	if RuntimeReady != criapi.RuntimeReady || NetworkReady != criapi.NetworkReady {
		t.Error("conditions are not CRI's")
	}
}
