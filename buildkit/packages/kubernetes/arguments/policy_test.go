package arguments

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	v1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install" // the defaults and conversions of policies
	"k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
)

// checkPolicy validates a ValidatingAdmissionPolicy as the API server does, and prints a
// line for each object of the files that follow: the message of the first validation
// that does not hold, or nothing.
func checkPolicy(args []string) error {
	if len(args) < 1 {
		return errors.New("usage: arguments policy POLICY [OBJECT…]")
	}
	var policy v1.ValidatingAdmissionPolicy
	if err := readJSON(args[0], &policy); err != nil {
		return err
	}
	legacyscheme.Scheme.Default(&policy)
	var internal admissionregistration.ValidatingAdmissionPolicy
	if err := legacyscheme.Scheme.Convert(&policy, &internal, nil); err != nil {
		return err
	}
	if problems := validation.ValidateValidatingAdmissionPolicy(&internal); len(problems) > 0 {
		return problems.ToAggregate()
	}
	env, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).StoredExpressionsEnv().Extend(
		cel.Variable("object", cel.DynType), cel.Variable("variables", cel.DynType))
	if err != nil {
		return err
	}
	for _, name := range args[1:] {
		var object map[string]any
		if err := readJSON(name, &object); err != nil {
			return err
		}
		message, err := judge(env, policy.Spec, object)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(message)
	}
	return nil
}

// judge returns the message of the first validation that does not hold.
func judge(env *cel.Env, policy v1.ValidatingAdmissionPolicySpec, object map[string]any) (string, error) {
	variables := map[string]any{}
	value := func(expression string) (any, error) {
		ast, issues := env.Compile(expression)
		if issues.Err() != nil {
			return nil, issues.Err()
		}
		program, err := env.Program(ast)
		if err != nil {
			return nil, err
		}
		out, _, err := program.Eval(map[string]any{"object": object, "variables": variables})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		return out, nil
	}
	for _, v := range policy.Variables {
		is, err := value(v.Expression)
		if err != nil {
			return "", err
		}
		variables[v.Name] = is
	}
	for _, v := range policy.Validations {
		holds, err := value(v.Expression)
		if err != nil {
			return "", err
		}
		if fmt.Sprint(holds) == "true" {
			continue
		}
		message, err := value(v.MessageExpression)
		return fmt.Sprint(message), err
	}
	return "", nil
}

func readJSON(name string, into any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
