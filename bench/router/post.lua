-- A request of one row, as the Open Inference Protocol has it.
wrk.method = "POST"
wrk.path = "/v2/models/m/infer"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-user"] = "someone"
wrk.body = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[39.1,18.7,181.0,3750.0]}]}'
