export const h: (...parts: any[]) => any;
export const render: (tree: any, root: Element) => void;
export const Component: { new (): { base: any; props: any; [name: string]: any } };
