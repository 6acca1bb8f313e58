/** Which npm packages a bundle takes along: some by name, and what they need, as the lock file has resolved it. */

/**
 * @typedef {object} LockedPackage
 * @property {string} [version]
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [optionalDependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {Record<string, { optional?: boolean }>} [peerDependenciesMeta]
 */

/** @typedef {Record<string, LockedPackage>} LockedPackages by their folder, such as `node_modules/vite` */

/**
 * The folders of packages and of all that they need, sorted. What is optional, such as binaries for other platforms,
 * is taken where it is installed.
 *
 * @param {LockedPackages} packages of package-lock.json
 * @param {string[]} names
 * @param {(folder: string) => boolean} isInstalled
 * @returns {string[]}
 */
export function closure(packages, names, isInstalled) {
  /** @type {Set<string>} */
  const taken = new Set()
  const waiting = names.map(name => resolve(packages, '', name) ?? missing(name, 'the list of a bundle'))
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    if (taken.has(folder)) continue
    if (!isInstalled(folder)) throw new Error(`${folder} is not installed: run npm run setup first`)
    taken.add(folder)
    const { required, optional } = needsOf(packages[folder] ?? {})
    for (const name of required) waiting.push(resolve(packages, folder, name) ?? missing(name, folder))
    for (const name of optional) {
      const found = resolve(packages, folder, name)
      if (found !== null && isInstalled(found)) waiting.push(found)
    }
  }
  return [...taken].sort()
}

/**
 * @param {LockedPackage} locked
 * @returns {{ required: string[], optional: string[] }}
 */
function needsOf({
  dependencies = {},
  optionalDependencies = {},
  peerDependencies = {},
  peerDependenciesMeta = {},
}) {
  const isOptional = (/** @type {string} */ name) =>
    name in optionalDependencies || peerDependenciesMeta[name]?.optional === true
  const peers = Object.keys(peerDependencies)
  return {
    required: [...Object.keys(dependencies), ...peers].filter(name => !isOptional(name)),
    // An optional peer is for features that whoever wants them lists by itself.
    optional: Object.keys(optionalDependencies),
  }
}

/**
 * The folder that Node would take for `name` from inside `folder`: the nearest node_modules on the way up.
 *
 * @param {LockedPackages} packages
 * @param {string} folder
 * @param {string} name
 * @returns {string | null}
 */
function resolve(packages, folder, name) {
  const inside = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`
  if (inside in packages) return inside
  if (folder === '') return null
  const above = folder.lastIndexOf('/node_modules/')
  return resolve(packages, above < 0 ? '' : folder.slice(0, above), name)
}

/**
 * @param {string} name
 * @param {string} by
 * @returns {never}
 */
function missing(name, by) {
  throw new Error(`package-lock.json has no ${name}, which ${by} needs`)
}
