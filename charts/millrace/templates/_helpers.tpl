{{- /* The images: key in the values and name in the registry. */}}
{{- define "millrace.imageNames" -}}
operator: operator
agent: agent
data: data
server: server
serverCuda: server-cuda
trainTabular: train-tabular
{{- end }}

{{- /* An image's whole reference: (dict "root" $ "key" "trainTabular"). */}}
{{- define "millrace.image" -}}
{{- $images := .root.Values.images }}
{{- $image := index $images .key }}
{{- $name := index (include "millrace.imageNames" . | fromYaml) .key }}
{{- $repository := $image.repository }}
{{- if not $repository }}
{{- $registry := required "images.registry is required: registry and path that the images lie below, as in registry.example.com/millrace" $images.registry }}
{{- $repository = printf "%s/%s" $registry $name }}
{{- end }}
{{- $digest := "" }}
{{- with $image.digest }}{{ $digest = printf "@%s" . }}{{ end }}
{{- printf "%s:%s%s" $repository ($image.tag | default .root.Chart.AppVersion) $digest }}
{{- end }}

{{- define "millrace.selector" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Names of objects outside of namespaces: two releases must not meet. */}}
{{- define "millrace.clusterName" -}}
{{- if eq .Release.Name "millrace" }}millrace{{ else }}millrace-{{ .Release.Name }}{{ end }}
{{- end }}

{{- define "millrace.webhookName" -}}
{{ .Release.Name }}-webhook
{{- end }}

{{- /* The generated rules: those for the release's namespace, the lease and the catalog's PodTemplates, or all others:
(dict "root" $ "here" true). */}}
{{- define "millrace.rules" -}}
{{- $rules := list }}
{{- range (.root.Files.Get "generated/rules.yaml" | fromYaml).rules }}
{{- $used := or (not (has "gateway.networking.k8s.io" .apiGroups)) $.root.Values.gatewayAPI.enabled }}
{{- if and $used (eq (or (has "leases" .resources) (has "podtemplates" .resources)) $.here) }}
{{- if has "bind" .verbs }}
{{- $_ := set . "resourceNames" (list (printf "%s-router" (include "millrace.clusterName" $.root))) }}
{{- end }}
{{- $rules = append $rules . }}
{{- end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}
