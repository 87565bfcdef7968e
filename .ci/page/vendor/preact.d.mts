export const h: (...parts: any[]) => any;
export const render: (tree: any, root: Element) => void;
export const Component: { new (): { box: any; props: any; [name: string]: any } };
