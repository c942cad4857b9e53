// Shows the incidents, asks again every three seconds, sends what is clicked. Everything an alert says is set as text, never as markup.
'use strict';

const list = document.getElementById('incidents');
const trouble = document.getElementById('trouble');

const time = (ms) => new Date(ms).toLocaleTimeString();

function told(error) {
  trouble.textContent = error ? String(error) : '';
  trouble.hidden = !error;
}

function alertLine(alert, grafana) {
  const line = document.createElement('li');
  const link = alert.link.startsWith('/') ? (grafana ? grafana + alert.link : '') : /^https?:\/\//.test(alert.link) ? alert.link : '';
  const text = document.createElement(link ? 'a' : 'span');
  if (link) text.href = link;
  text.textContent = [alert.severity, alert.name, alert.summary].filter(Boolean).join(' · ');
  text.title = alert.description;
  line.append(text);
  line.className = alert.firing ? '' : 'over';
  return line;
}

function show({ results, grafana }) {
  list.replaceChildren(...results.map((incident) => {
    const item = document.getElementById('incident').content.firstElementChild.cloneNode(true);
    item.className = incident.state;
    item.dataset.id = incident.id;
    item.querySelector('h2').textContent = `#${incident.id} ${incident.title}: ${incident.state}`;
    const marks = [['acknowledged', incident.acknowledged], ['resolved', incident.resolved]];
    item.querySelector('.when').textContent = [`opened ${time(incident.created_at_ms)}`]
      .concat(marks.filter(([, mark]) => mark).map(([what, mark]) => `${what} ${time(mark.at_ms)} by ${mark.by}`)).join(' · ');
    item.querySelector('ul').replaceChildren(...incident.alerts.map((alert) => alertLine(alert, grafana)));
    for (const button of item.querySelectorAll('button')) {
      button.hidden = incident.state === 'resolved' || (button.name === 'acknowledge' && incident.state === 'acknowledged');
      button.onclick = () => act(incident.id, button.name);
    }
    return item;
  }));
  if (!results.length) list.textContent = 'None.';
}

async function refresh() {
  try {
    show(await (await fetch('/api/v1/alert_groups')).json());
    told();
  } catch (error) {
    told(error);
  }
}

async function act(id, what) {
  const by = document.getElementById('by').value || 'somebody';
  const answer = await fetch(`/api/v1/alert_groups/${id}/${what}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ by }),
  });
  if (answer.ok) await refresh();
  else told(await answer.text());
}

refresh();
setInterval(refresh, 3000);
