-- One row a request, taken in turn from the rows that run.py wrote.
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local headers = { ["content-type"] = "application/json" }
local turn = 0
request = function()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, headers, bodies[turn])
end
