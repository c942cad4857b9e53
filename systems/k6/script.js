// A load test of Signalbox for k6. Run it with `make k6`, or on this machine: TARGET=http://127.0.0.1:18080 k6 run systems/k6/script.js
//
// Everything it needs is in this file and in k6 itself; nothing is loaded from the network.
// Each request starts a trace of its own: k6 is the caller, the service continues its id. A failed check prints that id, so that the
// trace can be opened. Reference: https://grafana.com/docs/k6/latest/

import http from 'k6/http';
import { check } from 'k6';
import { randomBytes } from 'k6/crypto';

const TARGET = __ENV.TARGET || 'http://127.0.0.1:18080';
const RATE = Number(__ENV.RATE || 10); // requests a second, whatever the service does: an open loop
const DURATION = __ENV.DURATION || '30s';

// [share of requests, route, query]. The route names the request in every metric; a path with its query would be a series for each value.
const MIX = [
  [40, '/ping', ''],
  [25, '/demo/work', ''],
  [15, '/demo/logs', '?count=5'],
  [15, '/api', '?delay_ms=20'],
  [5, '/demo/cpu', '?ms=50'],
];
const CLIENTS = ['11111', '22222', '33333'];

export const options = {
  scenarios: {
    mix: { executor: 'constant-arrival-rate', rate: RATE, timeUnit: '1s', duration: DURATION, preAllocatedVUs: 20, maxVUs: 100 },
  },
  // k6 ends with status 99 when one is broken: that is what makes it a test.
  thresholds: {
    http_req_failed: ['rate<0.01'],
    checks: ['rate>0.99'],
    dropped_iterations: ['count<1'],
    'http_req_duration{name:/ping}': ['p(95)<250'],
    'http_req_duration{name:/demo/work}': ['p(95)<1000'],
  },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
};

const hex = (bytes) => Array.from(new Uint8Array(randomBytes(bytes)), (byte) => byte.toString(16).padStart(2, '0')).join('');

function pick() {
  let ticket = Math.random() * MIX.reduce((sum, [share]) => sum + share, 0);
  return MIX.find(([share]) => (ticket -= share) < 0) || MIX[0];
}

export default function () {
  const [, route, query] = pick();
  const traceId = hex(16);
  const response = http.get(TARGET + route + query, {
    headers: {
      traceparent: `00-${traceId}-${hex(8)}-01`, // https://www.w3.org/TR/trace-context/
      'Client-ID': CLIENTS[__ITER % CLIENTS.length],
    },
    tags: { name: route },
  });
  const passed = check(response, {
    'status is 200': (r) => r.status === 200,
    'the service continued the trace': (r) => (r.headers['Traceresponse'] || '').includes(traceId),
  });
  if (!passed) {
    console.error(`${route} answered ${response.status}, trace ${traceId}`);
  }
}
