declare module 'node-gyp-build' {
  const nodeGypBuild: {
    /** The path of the addon in `build/Release` or `prebuilds/` of a package; throws when there is none. */
    resolve(packageRoot: string): string
  }
  export default nodeGypBuild
}
