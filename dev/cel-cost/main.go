// cel-cost prints what each validation rule of a folder of CRDs costs by the apiserver's estimate, as Markdown. The
// apiserver refuses a CRD over its limits, and the estimate grows with the bounds of every list and map around a rule.
// It uses the apiserver's own packages, in the version of the local cluster, and estimates nothing itself.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cel-cost FOLDER")
		os.Exit(2)
	}
	crds, err := readFolder(os.Args[1])
	if err == nil {
		var page string
		if page, err = table(crds); err == nil {
			fmt.Print(page)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "cel-cost:", err)
	os.Exit(1)
}

// table is the whole page.
func table(crds []crd) (string, error) {
	var page strings.Builder
	page.WriteString(`# What the validation rules cost

By the estimate of the apiserver, for the largest object that the schema allows. A share is of the apiserver's limits: 10,000,000 for a rule,
100,000,000 for all rules of a kind. Written by ` + "`make generate`" + `; a test fails above a quarter.

| kind | field | rule | cost | share |
|---|---|---|---:|---:|
`)
	for _, crd := range crds {
		rules, err := costs(crd)
		if err != nil {
			return "", fmt.Errorf("%s: %w", crd.kind(), err)
		}
		for _, r := range rules {
			fmt.Fprintf(&page, "| %s | `%s` | `%s` | %d | %s |\n", crd.kind(), r.field, escape(r.text), r.cost, share(r.cost, ruleLimit))
		}
		sum := total(rules)
		fmt.Fprintf(&page, "| **%s** | | all %d | %d | %s |\n", crd.kind(), len(rules), sum, share(sum, kindLimit))
	}
	return page.String(), nil
}

func share(cost, limit uint64) string {
	return fmt.Sprintf("%.2f %%", 100*float64(cost)/float64(limit))
}

// escape keeps a rule in its cell: a bar would end it.
func escape(rule string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(rule), " "), "|", `\|`)
}
