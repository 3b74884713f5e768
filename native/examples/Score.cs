// Scores photographs with a bundle: Score BUNDLE PHOTOGRAPH...   (libvqi.so on the loader's path)
using System;
using System.Runtime.InteropServices;

[StructLayout(LayoutKind.Sequential)]
struct Box { public int X1, Y1, X2, Y2; public float Score; }

[StructLayout(LayoutKind.Sequential)]
struct Result {
    public double Score, Threshold;
    public int Decision, Width, Height;
    public UIntPtr BoxCount;
    public IntPtr Boxes, Map;  // and further fields, which are not read here
}

static class Program {
    [DllImport("vqi")] static extern int vqi_open(string folder, IntPtr options, out IntPtr bundle);
    [DllImport("vqi")] static extern int vqi_score_file(IntPtr bundle, string path, out IntPtr result);
    [DllImport("vqi")] static extern void vqi_free_result(IntPtr result);
    [DllImport("vqi")] static extern void vqi_close(IntPtr bundle);
    [DllImport("vqi")] static extern IntPtr vqi_last_error();

    static void Check(int status) {
        if (status != 0) throw new Exception(Marshal.PtrToStringAnsi(vqi_last_error()));
    }

    static void Main(string[] words) {
        Check(vqi_open(words[0], IntPtr.Zero, out IntPtr bundle));
        for (int number = 1; number < words.Length; number++) {
            Check(vqi_score_file(bundle, words[number], out IntPtr pointer));
            var result = Marshal.PtrToStructure<Result>(pointer);
            Console.WriteLine($"{words[number]}: {(result.Decision == 1 ? "defect" : "no defect")}, score {result.Score}");
            for (int at = 0; at < (int)result.BoxCount; at++) {
                var box = Marshal.PtrToStructure<Box>(result.Boxes + at * Marshal.SizeOf<Box>());
                Console.WriteLine($"  from {box.X1}, {box.Y1} to {box.X2}, {box.Y2}: {box.Score}");
            }
            vqi_free_result(pointer);
        }
        vqi_close(bundle);
    }
}
