package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
)

const (
	folder = "../../crds"
	record = "../../docs/cel-cost.md"
)

func TestEachRuleCostsAQuarterOfTheLimitAtMost(t *testing.T) {
	for _, crd := range read(t) {
		rules := costed(t, crd)
		for _, r := range rules {
			if r.cost > ruleLimit/4 {
				t.Errorf("%s %s: %s costs %d of %d: bound the lists and maps around it", crd.kind(), r.field, r.text, r.cost, ruleLimit)
			}
		}
		if sum := total(rules); sum > kindLimit/4 {
			t.Errorf("the rules of %s cost %d of %d", crd.kind(), sum, kindLimit)
		}
	}
}

func TestTheRecordIsWhatTheRulesCost(t *testing.T) {
	wanted, err := table(read(t))
	if err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if string(found) != wanted {
		t.Errorf("%s differs from what the rules cost: run make generate and commit", record)
	}
}

func TestEveryRuleOfTheCRDsIsCounted(t *testing.T) {
	for _, crd := range read(t) {
		text, err := os.ReadFile(folder + "/" + crd.Spec.Names.Plural + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if written, counted := strings.Count(string(text), "rule: "), len(costed(t, crd)); written != counted || counted == 0 {
			t.Errorf("%s: %d rules are written, %d counted", crd.kind(), written, counted)
		}
	}
}

// The walk of this program against the apiserver's own: a bound that is raised to just over the limit by the one must
// be refused by the other, and the bound below it accepted.
func TestTheApiserverDrawsTheLineWhereTheEstimateDoes(t *testing.T) {
	for _, crd := range read(t) {
		if crd.kind() != "MLPipeline" {
			continue
		}
		stages := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["stages"]
		dearest := uint64(0)
		for _, r := range costed(t, crd) {
			if strings.HasPrefix(r.field, "spec.stages.*") {
				dearest = max(dearest, r.cost)
			}
		}
		each := dearest / uint64(*stages.MaxProperties)
		for _, c := range []struct {
			stages  uint64
			refused bool
		}{{ruleLimit / each, false}, {ruleLimit/each + 1, true}} {
			errors := verdict(t, crd, int64(c.stages))
			if strings.Contains(errors, "estimated rule cost exceeds budget") != c.refused {
				t.Errorf("with %d stages: refused is to be %t: %s", c.stages, c.refused, errors)
			}
		}
		return
	}
	t.Fatal("no CRD of MLPipeline")
}

// What the apiserver says to a CRD with this bound on the number of stages.
func verdict(t *testing.T, c crd, stages int64) string {
	t.Helper()
	changed := c.DeepCopy()
	spec := changed.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	field := spec.Properties["stages"]
	field.MaxProperties = &stages
	spec.Properties["stages"] = field
	v1.SetObjectDefaults_CustomResourceDefinition(changed)
	// As the apiserver does for what it is about to store.
	changed.Status.StoredVersions = []string{changed.Spec.Versions[0].Name}
	var inner apiextensions.CustomResourceDefinition
	if err := v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(changed, &inner, nil); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(validation.ValidateCustomResourceDefinition(context.Background(), &inner).ToAggregate())
}

func read(t *testing.T) []crd {
	t.Helper()
	crds, err := readFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	return crds
}

func costed(t *testing.T, c crd) []rule {
	t.Helper()
	rules, err := costs(c)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}
