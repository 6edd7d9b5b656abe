// Requests to unetbio view. Addresses are relative: they stand below the secret of the address of the page.

async function answer(response) {
  const content = await response.json();
  if (!response.ok) throw Object.assign(new Error(content.error), {status: response.status});
  return content;
}

export async function get(path) {
  return answer(await fetch(path));
}

export async function post(path, body) {
  const headers = {"Content-Type": "application/json"};
  return answer(await fetch(path, {method: "POST", headers, body: JSON.stringify(body)}));
}

export async function getIds(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error((await response.json()).error);
  return new Uint32Array(await response.arrayBuffer());
}
