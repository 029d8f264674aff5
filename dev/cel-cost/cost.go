package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

const (
	ruleLimit = uint64(validation.StaticEstimatedCostLimit)
	kindLimit = uint64(validation.StaticEstimatedCRDCostLimit)
)

type crd struct {
	v1.CustomResourceDefinition
}

func (c crd) kind() string { return c.Spec.Names.Kind }

// A rule, the field that it is about, and the most that all its evaluations for one object may cost.
type rule struct {
	field string
	text  string
	cost  uint64
}

func readFolder(folder string) ([]crd, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no CRD in %s", folder)
	}
	var crds []crd
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var crd crd
		if err := yaml.UnmarshalStrict(text, &crd.CustomResourceDefinition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// costs estimates every rule of a CRD, sorted by field.
func costs(c crd) ([]rule, error) {
	var rules []rule
	for _, version := range c.Spec.Versions {
		var schema apiextensions.JSONSchemaProps
		if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &schema, nil); err != nil {
			return nil, err
		}
		more, err := walk(&schema, "", validation.RootCELContext(&schema))
		if err != nil {
			return nil, err
		}
		rules = append(rules, more...)
	}
	slices.SortStableFunc(rules, func(a, b rule) int {
		if a.field < b.field {
			return -1
		}
		if a.field > b.field {
			return 1
		}
		return 0
	})
	return rules, nil
}

// walk goes the way of the apiserver's validation of a CRD, whose contexts know how often each part of an object may occur.
func walk(schema *apiextensions.JSONSchemaProps, field string, context *validation.CELSchemaContext) ([]rule, error) {
	rules, err := rulesAt(schema, field, context)
	if err != nil {
		return nil, err
	}
	descend := func(child *apiextensions.JSONSchemaProps, field string, context *validation.CELSchemaContext) error {
		more, err := walk(child, field, context)
		rules = append(rules, more...)
		return err
	}
	for name, child := range schema.Properties {
		if err := descend(&child, join(field, name), context.ChildPropertyContext(&child, name)); err != nil {
			return nil, err
		}
	}
	if values := schema.AdditionalProperties; values != nil && values.Schema != nil {
		if err := descend(values.Schema, join(field, "*"), context.ChildAdditionalPropertiesContext(values.Schema)); err != nil {
			return nil, err
		}
	}
	if items := schema.Items; items != nil && items.Schema != nil {
		if err := descend(items.Schema, field+"[*]", context.ChildItemsContext(items.Schema)); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func rulesAt(schema *apiextensions.JSONSchemaProps, field string, context *validation.CELSchemaContext) ([]rule, error) {
	if len(schema.XValidations) == 0 {
		return nil, nil
	}
	types, err := context.TypeInfo()
	if err != nil {
		return nil, err
	}
	environment := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	compiled, err := cel.Compile(types.Schema, types.DeclType, celconfig.PerCallLimit, environment, cel.NewExpressionsEnvLoader())
	if err != nil {
		return nil, err
	}
	var rules []rule
	for i, result := range compiled {
		if result.Error != nil {
			return nil, fmt.Errorf("%s: %w", field, result.Error)
		}
		times := result.MaxCardinality
		if context.MaxCardinality != nil {
			times = *context.MaxCardinality
		}
		rules = append(rules, rule{field: field, text: schema.XValidations[i].Rule, cost: product(result.MaxCost, times)})
	}
	return rules, nil
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// product is the largest number rather than one that wrapped around.
func product(a, b uint64) uint64 {
	if a != 0 && b > math.MaxUint64/a {
		return math.MaxUint64
	}
	return a * b
}

func total(rules []rule) uint64 {
	var sum uint64
	for _, r := range rules {
		sum += min(r.cost, math.MaxUint64-sum)
	}
	return sum
}
